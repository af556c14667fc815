"""The ranker behind BentoML: `bentoml serve loadtests.peers.bento:Reranker`, in an environment of its own."""

from __future__ import annotations

import os
from pathlib import Path

import bentoml
import redis.asyncio

from loadtests.peers.ranking import (
    BUNDLE,
    STORE,
    WORKERS,
    Candidate,
    Item,
    Ranker,
    Request,
    Slate,
    history_key,
)


@bentoml.service(
    workers=int(os.environ.get(WORKERS, "1")),
    logging={"access": {"enabled": False}},  # the other servers write none
)
class Reranker:
    """A model loaded once a worker and a method with pydantic types, as in BentoML's guide.

    The method is asynchronous, as the guide advises where a store is read: a synchronous one runs in a thread
    for each request, which costs more than the graph's half a millisecond.
    """

    def __init__(self) -> None:
        self._ranker = Ranker(Path(os.environ[BUNDLE]))
        self._store = redis.asyncio.Redis.from_url(os.environ[STORE])

    @bentoml.api(route="/rerank")
    async def rerank(self, user_id: str, timestamp_ms: int, candidates: list[Candidate]) -> Slate:
        """Rank one slate."""
        history = await self._store.get(history_key(user_id))
        # Input was validated by BentoML, output is our own.
        request = Request.model_construct(user_id=user_id, timestamp_ms=timestamp_ms, candidates=candidates)
        items = self._ranker.rank(request, history)
        return Slate.model_construct(items=[Item.model_construct(**item) for item in items])
