"""The users that the pages give a store: what was acknowledged is there when it starts again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT
from tests.deployment.pages import users_of_the_cluster
from tests.service import clusters
from tests.service.stores import event, patient_store, run


def of_compose(folder: Path) -> tuple[str, str, str]:
    """The file of users, and the passwords of the administrator and of the service."""
    env = {**os.environ, "SECRETS": str(folder)}
    subprocess.run(["sh", ROOT / "docker" / "secrets.sh"], env=env, check=True, capture_output=True)
    made = {name: (folder / name).read_text() for name in ("store_acl", "password_admin", "password_service")}
    return made["store_acl"], made["password_admin"], made["password_service"]


def of_kubernetes(_: Path) -> tuple[str, str, str]:
    return users_of_the_cluster(), "ADMIN", "PASSWORD"


async def keep(url: str) -> None:
    store = patient_store(url)
    for batch in range(3):
        events = [event(f"e{batch}-{i}", "alice", after_ms=10 * batch + i) for i in range(5)]
        assert {o.kind for o in await store.record("alice", events)} == {"accepted"}
    await store.close()


async def stored_events(url: str) -> list[str]:
    store = patient_store(url)
    state = await store.read("alice")
    again = await store.record("alice", [event("e0-0", "alice")])
    await store.close()
    assert [o.kind for o in again] == ["duplicate"]
    return [] if state is None else [e.event_id for e in state.events]


@pytest.mark.xdist_group("clusters")
@pytest.mark.slow
@pytest.mark.parametrize("users", [of_compose, of_kubernetes])
def test_a_store_with_these_users_has_everything_after_a_kill(
    users: Callable[[Path], tuple[str, str, str]], tmp_path: Path
) -> None:
    text, admin, password = users(tmp_path / "secrets")
    file = tmp_path / "users.acl"
    file.write_text(text)
    options: list[str | Path] = ["--aclfile", file, "--appendonly", "yes", "--appendfsync", "always"]
    login = {"user": "admin", "password": admin}
    with clusters.node(tmp_path / "data", *options, **login) as first:
        run(keep(f"redis://reelrank:{password}@127.0.0.1:{first.port}"))
        first.kill()
    with clusters.node(tmp_path / "data", *options, **login) as second:
        found = run(stored_events(f"redis://reelrank:{password}@127.0.0.1:{second.port}"))
    assert found == [f"e{batch}-{i}" for batch in range(3) for i in range(5)]
