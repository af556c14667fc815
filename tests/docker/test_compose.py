"""The topology keeps the rules: no container is root or writes to its root, and the store is hidden."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from service.settings import Settings
from tests.conftest import ROOT
from tests.docker.files import DOCKER, compose, services

PUBLISHED = {"proxy", "prometheus", "grafana"}
WITHOUT_A_CHECK = {"redis-exporter"}
"""Its official image holds one program and nothing that could ask it."""


@pytest.mark.parametrize("name", services())
def test_a_container_may_do_no_more_than_it_must(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"]["max-size"]
    if "build" not in service:  # ours have a user of their own
        assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])


@pytest.mark.parametrize("name", services())
def test_only_what_people_look_at_is_published_and_on_loopback(name: str) -> None:
    service = services()[name]
    assert ("ports" in service) == (name in PUBLISHED)
    text = (DOCKER / "compose.yaml").read_text()
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert "BIND:-127.0.0.1" in text
    assert ("front" in service["networks"]) == (name in PUBLISHED)


def test_the_store_is_reached_by_nothing_from_outside() -> None:
    assert services()["redis"]["networks"] == ["back"]
    assert compose()["networks"]["back"] == {"internal": True}


def test_the_store_never_forgets_what_makes_an_event_known() -> None:
    command = services()["redis"]["command"]
    options = dict(zip(command[::2], command[1::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert int(options["--maxmemory"].removesuffix("mb")) > 0
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "always"
    assert options["--aclfile"] == "/run/secrets/store_acl"
    assert "store:/data" in services()["redis"]["volumes"]


@pytest.mark.parametrize("name", sorted(set(services()) - {"service-gpu", *WITHOUT_A_CHECK}))
def test_there_is_a_health_check(name: str) -> None:
    dockerfile = (DOCKER / "service.Dockerfile").read_text()
    if "healthcheck" in services()[name]:
        assert services()[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    else:
        assert "build" in services()[name]
        assert "HEALTHCHECK" in dockerfile


def test_no_secret_is_in_an_environment_and_each_is_given_to_those_who_need_it() -> None:
    declared = set(compose()["secrets"])
    used = set()
    for name, service in services().items():
        for secret in service.get("secrets", ()):
            used.add(secret if isinstance(secret, str) else secret["source"])
        for variable, value in service.get("environment", {}).items():
            if re.search(r"KEY|PASSWORD|STORE", variable):
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"
    assert used == declared
    admins = [name for name, service in services().items() if "store_admin" in service.get("secrets", ())]
    assert admins == ["redis"]


def test_every_setting_that_is_given_is_one_of_the_service() -> None:
    for service in services().values():
        for variable in service.get("environment", {}):
            if variable.startswith("REELRANK_"):
                assert variable.removeprefix("REELRANK_").lower() in Settings.model_fields, variable


def test_each_replica_has_a_data_folder_of_its_own() -> None:
    folders = [
        volume.partition(":")[0]
        for service in services().values()
        for volume in service.get("volumes", ())
        if volume.endswith(":/data")
    ]
    assert len(folders) == len(set(folders)) >= 4
    assert set(folders) < set(compose()["volumes"])


def test_bundles_cannot_be_changed_by_who_answers_from_them() -> None:
    for service in services().values():
        mounted = [volume for volume in service.get("volumes", ()) if ":/bundles" in volume]
        assert all(volume.endswith(":ro") for volume in mounted)


def test_profiles_are_those_that_are_documented_and_the_default_ones_start() -> None:
    found = {profile for service in services().values() for profile in service.get("profiles", ())}
    assert found == {"default", "gpu", "observability"}
    assert "COMPOSE_PROFILES=default,observability" in (DOCKER / ".env").read_text()


def test_every_variable_is_in_the_readme() -> None:
    page = (DOCKER / "README.md").read_text()
    found = set(re.findall(r"\$\{(\w+):-", (DOCKER / "compose.yaml").read_text()))
    assert found
    assert not {name for name in found if f"`{name}`" not in page}


def test_the_proxy_knows_every_replica_and_repeats_only_what_may_be() -> None:
    text = (DOCKER / "proxy" / "haproxy.cfg").read_text()
    named = set(re.findall(r"^    server \w+ ([\w-]+):8000$", text, re.MULTILINE))
    assert named == {name for name in services() if name.startswith("service-")}
    assert "disable-l7-retry if streamed or !again_by_method !again_by_path" in text
    (again,) = re.findall(r"acl again_by_path path (.*)", text)
    assert again.split() == ["/label", "/rerank"]


def test_the_proxy_passes_what_is_for_the_outside_however_a_path_is_spelt() -> None:
    text = (DOCKER / "proxy" / "haproxy.cfg").read_text()
    (whole,) = re.findall(r"acl outside path (.*)", text)
    (begun,) = re.findall(r"acl outside path_beg (.*)", text)
    assert re.search(r"http-request return status 404 .* if !outside$", text, re.MULTILINE)

    def passes(path: str) -> bool:
        return path in whole.split() or path.startswith(tuple(begun.split()))

    document = json.loads((ROOT / "tests" / "surface" / "golden" / "openapi.json").read_text())
    hidden = {path for path in [*document["paths"], "/docs", "/openapi.json"] if not passes(path)}
    assert {path for path in hidden if not path.startswith("/v1/")} == {"/metrics", "/docs", "/openapi.json"}
    assert not list(filter(passes, ("/%6detrics", "/%761/models", "/v1%2Fmodels", "//metrics", "/./docs")))


def secrets(folder: Path, *arguments: str) -> dict[str, str]:
    """What `secrets.sh` leaves behind."""
    env = {"SECRETS": str(folder), "PATH": "/usr/bin:/bin"}
    subprocess.run(
        ["sh", DOCKER / "secrets.sh", *arguments], env=env, check=True, capture_output=True, text=True
    )
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum on this system")
    return tmp_path / "secrets"


def test_secrets_are_made_once_and_each_declared_one_is_there(folder: Path) -> None:
    made = secrets(folder)
    assert secrets(folder) == made
    assert {Path(given["file"]).name for given in compose()["secrets"].values()} <= set(made)
    assert folder.stat().st_mode & 0o077 == 0
    url = urlsplit(made["store_url_service"].strip())
    assert (url.username, url.password) == ("reelrank", made["password_service"])
    assert made["password_service"] not in made["store_acl"], "the store holds digests"


def test_the_users_of_the_store_are_those_of_the_security_page(folder: Path) -> None:
    users = [line.split() for line in secrets(folder)["store_acl"].splitlines()]
    rules = {words[1]: words[3:] for words in users}
    for name in ("reelrank", "reelrank-consumer"):
        (line,) = re.findall(
            rf"^ACL SETUSER {name} reset on >PASSWORD (.*)$",
            (ROOT / "SECURITY.md").read_text(),
            re.MULTILINE,
        )
        assert [word for word in rules[name] if not word.startswith("#")] == line.split()
    page = (ROOT / "SECURITY.md").read_text()
    assert f"ACL SETUSER default reset {' '.join(['off', *rules['default']])}\n" in page


def test_a_rotation_keeps_the_old_ones_until_it_is_settled(folder: Path) -> None:
    before = secrets(folder)
    between = secrets(folder, "rotate")
    after = secrets(folder, "settle")
    old, new = before["key_client"], after["key_client"]
    assert old != new == between["key_client"]
    assert f"{old}:label+rerank" in between["api_keys"]
    assert f"{new}:label+rerank" in between["api_keys"]
    assert old not in after["api_keys"]
    digests = [
        {word for word in text["store_acl"].split() if word.startswith("#")}
        for text in (before, between, after)
    ]
    assert digests[1] == digests[0] | digests[2]
    assert not digests[0] & digests[2]
    # What is used while others still hold the old ones changes last.
    assert (
        between["store_admin"],
        between["metrics_key"],
    ) == (before["store_admin"], before["metrics_key"])


@pytest.mark.slow
def test_a_second_rotation_before_the_first_is_settled_is_refused(folder: Path) -> None:
    secrets(folder)
    secrets(folder, "rotate")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        secrets(folder, "rotate")
    assert "run settle first" in refused.value.stderr
