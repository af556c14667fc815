"""URLs of clusters and sentinels: what they mean, what is refused, and that they keep their secrets."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadInput, StoreUnavailable
from service.state import RedisStore
from service.state.multi_node_url import MultiNodeUrl, display_url
from tests.service.stores import run

words = st.text(min_size=1, max_size=20)
ports = st.integers(1, 65535)


def parsed(url: str) -> MultiNodeUrl:
    found = MultiNodeUrl.parse(url)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "url", ["redis://h:1/0", "rediss://h", "unix:///s.sock", "", "http+cluster://h", "redis+x://h"]
)
def test_the_url_of_one_server_is_none_of_these(url: str) -> None:
    assert MultiNodeUrl.parse(url) is None


def test_a_cluster_is_some_of_its_nodes() -> None:
    found = parsed("redis+cluster://10.0.0.1,[::1]:7001,redis.example:7002")
    assert found.kind == "cluster"
    assert found.hosts == (("10.0.0.1", 6379), ("::1", 7001), ("redis.example", 7002))
    assert (found.replicas, found.tls) == (0, False)
    assert found.display_url == "redis+cluster://10.0.0.1:6379,[::1]:7001,redis.example:7002"


def test_sentinels_name_a_primary_and_its_database() -> None:
    found = parsed(
        "rediss+sentinel://s1,s2:5000/feeds/3?sentinel_password=x%20y&replicas=1&ssl_ca_certs=/ca.pem"
    )
    assert found.hosts == (("s1", 26379), ("s2", 5000))
    assert (found.service, found.replicas, found.tls) == ("feeds", 1, True)
    assert found.options == {"db": 3, "ssl_ca_certs": "/ca.pem"}
    assert found.sentinel_options["password"] == "x y"
    assert found.sentinel_options["db"] == 0


@given(user=words, password=words, hosts=st.lists(ports, min_size=1, max_size=4))
def test_user_and_password_arrive_as_they_are_and_are_told_to_nobody(
    user: str, password: str, hosts: list[int]
) -> None:
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    named = ",".join(f"h:{port}" for port in hosts)
    for url in (f"redis+cluster://{login}@{named}", f"redis+sentinel://{login}@{named}/s"):
        found = parsed(url)
        assert (found.options["username"], found.options["password"]) == (user, password)
        assert found.hosts == tuple(("h", port) for port in hosts)
        assert found.display_url == display_url(url) == url.replace(f"{login}@", "")
        assert login not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://u:secret@",
        "redis+cluster://u:secret@h:1,",
        "redis+cluster://u:secret@h:x",
        "redis+cluster://u:se/cret@h",
        "redis+cluster://u:secret@h/1",
        "redis+cluster://u:secret@h?replicas=two",
        "redis+cluster://u:secret@h?replicas=-1",
        "redis+sentinel://u:secret@h",
        "redis+sentinel://u:secret@h/",
        "redis+sentinel://u:secret@h/s/x",
        "rediss+sentinel://[u:secret@h/s",
    ],
)
def test_one_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        RedisStore.open(url)
    assert "redis+cluster://[user:password@]host:port" in str(caught.value)
    assert "cret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_options_and_files_that_are_not_there_end_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="replika"):
        RedisStore.open("redis+cluster://u:secret@h?replika=1")
    with pytest.raises(BadInput, match="ssl_ca_certs"):
        RedisStore.open(f"rediss+cluster://h?ssl_ca_certs={tmp_path / 'nope.pem'}")


@pytest.mark.parametrize(
    "url", ["redis+cluster://u:secret@127.0.0.1:1,127.0.0.1:2", "redis+sentinel://u:secret@127.0.0.1:1/s"]
)
def test_one_that_nobody_answers_at_is_unavailable_and_named(url: str) -> None:
    async def main() -> None:
        store = RedisStore.open(url)
        with pytest.raises(StoreUnavailable) as caught:
            await store.ping()
        await store.close()
        assert caught.value.reason == "connection"
        assert "127.0.0.1:1" in str(caught.value)
        assert "secret" not in str(caught.value)

    run(main())
