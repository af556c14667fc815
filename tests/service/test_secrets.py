"""Keys and passwords are in no answer and on no line that the service writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from service.commands.serve import security_warnings
from service.settings import Settings
from tests.service.command_line import refusal
from tests.service.running import event, running

pytestmark = pytest.mark.slow

KEY = "k3y-of-one-client"
PASSWORD = "p4ssw0rd-of-the-store"
SECRETS = (KEY, PASSWORD)
STORE = f"redis://reelrank:{PASSWORD}@127.0.0.1:1/0"


def test_no_secret_is_answered_or_written_whatever_goes_wrong(bundles: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}:label+rerank+read+admin\n")
    keys.chmod(0o600)
    env = {"REELRANK_STORE": STORE, "REELRANK_API_KEYS_FILE": str(keys)}
    bearer = {"authorization": f"Bearer {KEY}"}
    with running(bundles, tmp_path / "data", **env) as service:
        with service.client() as client:
            replies = [
                client.request(method, path, headers=headers, content=b"{", timeout=30)
                for headers in (
                    bearer,
                    {"authorization": f"Basic {KEY}"},
                    {"authorization": f"Bearer {KEY}x"},
                )
                for method, path in (
                    *(("POST", "/label"), ("POST", "/rerank"), ("GET", "/metrics"), ("GET", "/v1/models")),
                    *(
                        ("DELETE", "/users/u"),
                        ("GET", "/users/u/sequence"),
                        ("POST", "/v1/models/x:activate"),
                    ),
                    *(("GET", "/openapi.json"), ("GET", "/health/ready"), ("GET", "/docs")),
                )
            ]
            refused = client.post("/label", json=event(), headers=bearer)
            assert (refused.status_code, "(connection)" in refused.json()["detail"]) == (503, True)
        service.terminate()
        assert service.process.stdout is not None
        assert service.process.stderr is not None
        written = service.process.stdout.read() + service.process.stderr.read()
    assert "redis://127.0.0.1:1" in written  # for the operator, and for no caller
    assert not [reply for reply in [*replies, refused] if "127.0.0.1" in reply.text]
    assert {401, 503} <= {reply.status_code for reply in replies}
    for secret in SECRETS:
        assert secret not in written
        assert not [reply for reply in replies if secret in reply.text + str(reply.headers)]


@pytest.mark.parametrize(
    "env",
    [
        {"REELRANK_STORE": f"http://{PASSWORD}@host"},
        {"REELRANK_STORE": f"redis://:{PASSWORD}@host:port"},
        {"REELRANK_STORE": f"redis://:{PASSWORD}[@host"},
        {"REELRANK_STORE": f"redis://:p@{PASSWORD}#word@127.0.0.1:6379/0"},
        {"REELRANK_STORE": f"redis://:p@{PASSWORD}@127.0.0.1:6379/0"},
        {"REELRANK_STORE": f"redis://:1/{PASSWORD}@127.0.0.1:6379/0"},
        {"REELRANK_STORE": f"redis://user:1?{PASSWORD}@127.0.0.1:6379/0"},
        {"REELRANK_STORE": f"redis+sentinel://:p#{PASSWORD}@127.0.0.1:6379/reels"},
        {"REELRANK_STORE": f"unix://:p/{PASSWORD}@/run/valkey.sock"},
        {"REELRANK_STORE": f"redis://127.0.0.1:6379/{PASSWORD}"},
        {"REELRANK_API_KEYS": KEY},
        {"REELRANK_API_KEYS": f"{KEY}:root"},
        {"REELRANK_API_KEYS": f"{KEY}:label@often"},
    ],
)
def test_a_start_that_is_refused_does_not_say_the_secret_it_refuses(
    bundles: Path, tmp_path: Path, env: dict[str, str]
) -> None:
    said = refusal("serve", "--port", "0", "--bundle", bundles, data_dir=tmp_path, **env)
    assert not [secret for secret in SECRETS if secret in said]


def test_the_settings_do_not_show_the_keys() -> None:
    assert KEY not in repr(Settings.read(api_keys=KEY))


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_keys_that_others_can_read_are_warned_of(tmp_path: Path, mode: int, warned: bool) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{KEY}:read\n")
    keys.chmod(mode)
    said = list(security_warnings(Settings.read(api_keys_file=keys), "127.0.0.1"))
    assert bool(said) == warned
    assert not [line for line in said if f"chmod 600 {keys}" not in line]


def test_root_is_warned_of_where_others_can_come(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.read()
    for user, host, warned in ((0, "0.0.0.0", True), (0, "127.0.0.1", False), (1000, "0.0.0.0", False)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        assert bool(list(security_warnings(settings, host))) == warned


def test_the_stores_url_may_come_from_a_file_that_only_it_can_read(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"{STORE}\n")
    file.chmod(0o600)
    assert Settings.read(store_file=file).store == STORE
    assert Settings.read(store_file=file, store="redis://other").store == "redis://other"
    assert not list(security_warnings(Settings.read(store_file=file), "127.0.0.1"))
    file.chmod(0o644)
    (warning,) = security_warnings(Settings.read(store_file=file), "127.0.0.1")
    assert "store's password" in warning
    assert PASSWORD not in warning


@pytest.mark.parametrize("content", [None, "", f"{STORE}\n{STORE}\n"])
def test_a_file_without_the_stores_url_ends_the_start(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "url"
    if content is not None:
        file.write_text(content)
    said = refusal("serve", "--port", "0", data_dir=tmp_path, REELRANK_STORE_FILE=str(file))
    assert "REELRANK_STORE_FILE" in said
    assert PASSWORD not in said
