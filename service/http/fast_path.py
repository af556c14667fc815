"""The routes that carry nearly all traffic, past the framework.

Its routing, validation and exception layers cost a request as much as its features do. These routes stay
declared there, for OpenAPI; any other path, and any other method on these, is the framework's.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from service.http.auth import Handler
from service.http.errors import is_fault, problem_response


class FastPathRouter:
    """Calls the handlers of a few POST routes itself.

    Args:
        app: answers everything else.
        routers: of these routes, without parameters in their paths.
    """

    def __init__(self, app: FastAPI, *routers: APIRouter) -> None:
        self._app = app
        self._handlers: dict[str, Handler] = {
            route.path: route.endpoint
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_post = scope["type"] == "http" and scope["method"] == "POST"
        handler = self._handlers.get(scope["path"]) if is_post else None
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
            await problem_response(request, e)(scope, receive, send)
            if is_fault(e):
                raise
