"""Users: reading what the service holds on one, forgetting one."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from models.errors import UnknownUser
from service.http.auth import Keys
from service.http.openapi import operations as docs
from service.http.request import RequestReader, json_response, path_id
from service.state.protocol import Store
from service.telemetry.trace import current_trace
from service.unlearning.ledger import Ledger
from service.wire import Forgotten, Sequence


def user_routes(store: Store, ledger: Ledger, reader: RequestReader, keys: Keys) -> APIRouter:
    """Return the routes of GET /users/{user_id}/sequence and DELETE /users/{user_id}."""
    router = APIRouter()

    @router.get("/users/{user_id:path}/sequence", tags=["users"], openapi_extra=docs.SEQUENCE)
    @keys.require("read")
    async def get_sequence(request: Request) -> Response:
        """Everything the service holds on a user: exposures, newest last, and profile features."""
        user_id = path_id(request, "user_id")
        current_trace().mark("parse")
        async with reader.time_limit(request):
            state = await store.read(user_id)
        current_trace().mark("state")
        if state is None:
            raise UnknownUser(f"The service holds nothing on user {user_id!r}.")
        return json_response(Sequence(user_id, state.events, state.profile))

    @router.delete("/users/{user_id:path}", tags=["users"], openapi_extra=docs.FORGET)
    @keys.require("admin")
    async def delete_user(request: Request) -> Response:
        """Forget a user: sequence, profile and idempotency records go at once, the id goes to the unlearning
        ledger, from which training learns whose exposures to leave out.

        A user the store does not know goes to the ledger too: the logs that were trained on may have had
        them. When this fails, nothing of the user or all of it may be gone; repeat it until it is 200. Twice
        in the ledger is as good as once.
        """
        if request.scope["raw_path"].endswith(b"/sequence"):  # the slash of a user `…/sequence` is encoded
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET"})
        user_id = path_id(request, "user_id")
        current_trace().mark("parse")
        # The ledger first: the user is then forgotten by what is trained next, though the store may be away.
        # The other way round a full disk would leave a user forgotten here and learned from again.
        await ledger.append(user_id)
        async with reader.time_limit(request):
            known = await store.forget(user_id)
        current_trace().mark("state")
        return json_response(Forgotten(user_id, known))

    return router
