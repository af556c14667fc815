"""The two paths that every impression takes, past the framework: its routing, validation and exception
layers cost a request as much as its features do. They stay declared there, for the description of the
service; any other path, and any other method on these, is the framework's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.endpoints import label, rerank
from service.http.errors import answer, is_fault

Handler = Callable[[Request], Awaitable[Response]]

DIRECT: Final[Mapping[str, Handler]] = {"/rerank": rerank.post_rerank, "/label": label.post_label}


class Direct:
    """Answers `DIRECT` itself.

    Args:
        app: everything else.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = DIRECT.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if handler is None:
            await self._app(scope, receive, send)
            return
        scope["app"] = self._app
        scope["reelrank.route"] = scope["path"]
        started = False

        async def noted_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        request = Request(scope, receive)
        try:
            response = await handler(request)
            await response(scope, receive, noted_send)
        except Exception as e:
            if started:
                raise
            await answer(request, e)(scope, receive, send)
            if is_fault(e):
                raise
