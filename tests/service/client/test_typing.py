"""The types of both clients: mypy checks them here, and the calls are real."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import assert_type

import pytest

from models.schema import Candidate
from service import wire
from service.client import Answer, AsyncClient, Client, Refused
from tests.service.client.exposures import exposure
from tests.service.running import Service

UNKNOWN = "20990101-00000000"


def test_the_blocking_client_returns_replies(service: Service, user: str) -> None:
    with Client(service.url) as api:
        events = [exposure(f"{user}-{i}", user) for i in range(5)]
        assert assert_type(api.label(events, labels=["pcr"]), wire.LabelReply).accepted == 5
        assert [assert_type(r, wire.LabelReply).duplicates for r in api.label_all(events, batch=2)] == [
            2,
            2,
            1,
        ]
        assert len(list(assert_type(api.label_stream(events), Generator[Answer, None, None]))) == 6
        assert_type(api.rerank(user, [Candidate(video_id="v1")], top_k=1), wire.RerankReply)
        assert_type(api.put_videos([Candidate(video_id=f"{user}-v")]), wire.Stored)
        assert_type(api.put_users({user: {"age": 1.0}}), wire.Stored)
        assert_type(api.sequence(user), wire.Sequence)
        assert_type(api.forget(user), wire.Forgotten)
        assert_type(api.models(), wire.Models)
        assert_type(api.ready(), wire.Health)
        assert_type(api.health(), wire.Health)
        with pytest.raises(Refused, match="404"):
            assert_type(api.activate(UNKNOWN), wire.Active)
        for set_share in (api.split, api.shadow):
            with pytest.raises(Refused, match="404"):
                assert_type(set_share(UNKNOWN, 0.1), wire.Traffic)
        assert_type(api.rollback, Callable[[], wire.Active])


def test_the_async_client_returns_the_same_to_await(service: Service, user: str) -> None:
    async def main() -> None:
        async with AsyncClient(service.url) as api:
            events = [exposure(f"{user}-{i}", user) for i in range(5)]
            assert [r.accepted async for r in api.label_all(events, batch=2)] == [2, 2, 1]
            assert assert_type(await api.label(events, store=True), wire.LabelReply).duplicates == 5
            answers = assert_type(api.label_stream(events), AsyncGenerator[Answer, None])
            assert len([answer async for answer in answers]) == 6
            slate = await api.rerank(user, [Candidate(video_id="v1")], explain=True, deadline_ms=60_000.0)
            assert assert_type(slate, wire.RerankReply).history_length == 5
            assert (
                assert_type(await api.put_videos([Candidate(video_id=f"{user}-v")]), wire.Stored).accepted
                == 1
            )
            assert assert_type(await api.put_users({user: {"age": 1.0}}), wire.Stored).accepted == 1
            assert len(assert_type(await api.sequence(user), wire.Sequence).events) == 5
            assert assert_type(await api.forget(user), wire.Forgotten).known
            assert (await api.models()).active == (await api.ready()).model_version
            assert assert_type(await api.health(), wire.Health).status == "live"
            with pytest.raises(Refused, match="404"):
                await api.activate(UNKNOWN)
            for set_share in (api.split, api.shadow):
                with pytest.raises(Refused, match="404"):
                    assert_type(await set_share(UNKNOWN, 0.1), wire.Traffic)
            assert_type(api.rollback, Callable[[], Awaitable[wire.Active]])

    asyncio.run(main())


def test_wrong_arguments_are_type_errors() -> None:
    """mypy fails on an ignored error that is none."""
    with Client("http://127.0.0.1:1") as api:
        with pytest.raises(TypeError):
            api.rerank("u1", [], no_such=True)  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            api.label([], ["pcr"])  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            api.split("v1")  # type: ignore[call-arg]


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_signatures_and_docstrings_are_those_of_the_endpoint(client: type[Client | AsyncClient]) -> None:
    api = client("http://127.0.0.1:1")
    assert str(inspect.signature(api.split)).startswith("(version: 'str', share: 'float')")
    assert api.split.__name__ == "split"
    assert "canary" in (inspect.getdoc(api.split) or "")


def test_both_streams_take_the_same_arguments() -> None:
    for name in ("__init__", "label_all", "label_stream"):
        blocking, awaited = (inspect.signature(getattr(kind, name)) for kind in (Client, AsyncClient))
        assert list(blocking.parameters) == list(awaited.parameters), name
