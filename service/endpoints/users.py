"""Users: their sequences and profile features, and forgetting one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec
from fastapi import APIRouter, Request
from msgspec import UNSET
from starlette.exceptions import HTTPException
from starlette.responses import Response

from models.errors import Invalid, UnknownUser
from models.manifest import Manifest
from models.schema import checked_id
from service.http.openapi import operations as docs
from service.http.request import json_response
from service.pipeline.decoding import check_count, decode
from service.pipeline.fan_out import for_each_user
from service.services import Services
from service.telemetry.trace import current_trace
from service.wire import Forgotten, Sequence, Stored, UserProfile

_profiles: Final = msgspec.json.Decoder(list[UserProfile])


def user_routes(services: Services) -> APIRouter:
    """Return the routes of GET /users/{user_id}/sequence, DELETE /users/{user_id} and PUT /users."""
    router = APIRouter(tags=["users"])
    store, reader, keys = services.store, services.reader, services.keys

    @router.get("/users/{user_id:path}/sequence", openapi_extra=docs.SEQUENCE)
    @keys.require("read")
    async def get_sequence(request: Request) -> Response:
        """Everything the service holds on a user: exposures, newest last, profile features, and the history
        from before the exposures."""
        user_id = _user_in_path(request, of_sequence=True)
        current_trace().mark("parse")
        async with reader.time_limit(request):
            state = await store.read(user_id)
        current_trace().mark("state")
        if state is None:
            raise UnknownUser(f"The service holds nothing on user {user_id!r}.")
        return json_response(Sequence(user_id, state.events, state.profile, state.history))

    @router.delete("/users/{user_id:path}", openapi_extra=docs.FORGET)
    @keys.require("admin")
    async def delete_user(request: Request) -> Response:
        """Forget a user: sequence, profile, history and idempotency records go at once, the id goes to the
        unlearning ledger, from which training learns whose exposures to leave out.

        A user the store does not know goes to the ledger too: the logs that were trained on may have had
        them. When this fails, nothing of the user or all of it may be gone; repeat it until it is 200. Twice
        in the ledger is as good as once.
        """
        user_id = _user_in_path(request, of_sequence=False)
        current_trace().mark("parse")
        # The ledger first: the user is then forgotten by what is trained next, though the store may be away.
        # The other way round a full disk would leave a user forgotten here and learned from again.
        await services.ledger.append(user_id)
        async with reader.time_limit(request):
            known = await store.forget(user_id)
        current_trace().mark("state")
        return json_response(Forgotten(user_id, known))

    @router.put("/users", openapi_extra=docs.PROFILES)
    @keys.require("label")
    async def put_users(request: Request) -> Response:
        """Give profile features of users, by the names that the bundle declares (GET /v1/models), and their
        history: exposures from before the first event, of which only long view and like are known.

        Everything is checked before anything is written. A profile replaces the one before, and a history
        that before; of a profile a missing name means unknown. Of a history the newest 50 are kept.
        """
        manifest = services.serving.active().manifest
        users = decode(_profiles, await reader.json(request), root="users")
        check_count(users, services.settings.max_events, "users", "REELRANK_MAX_EVENTS")
        for index, user in enumerate(users):
            _check(user, manifest, index)
        current_trace().mark("parse")
        # Two entries of one user would race.
        profiles = {user.user_id: user.profile for user in users if user.profile is not UNSET}
        histories = {user.user_id: user.history for user in users if user.history is not UNSET}
        async with reader.time_limit(request):
            await for_each_user(lambda entry: store.put_profile(*entry), profiles.items())
            await for_each_user(lambda entry: store.put_history(*entry), histories.items())
        current_trace().mark("state")
        return json_response(Stored(accepted=len(users)))

    return router


def _user_in_path(request: Request, *, of_sequence: bool) -> str:
    """Return the id in `/users/{user_id}` or `/users/{user_id}/sequence`; it may hold slashes.

    The path as it was sent decides which of the two it is: the slash in the id of a user `x/sequence` is
    encoded. The framework has decoded that one, and invalid bytes to U+FFFD, which would be another user.

    Raises:
        HTTPException: it is the other of the two, which does not take this method.
        Invalid: not UTF-8, or not an id.
    """
    _, _, user = request.scope["raw_path"].split(b"/", 2)
    before, slash, last = user.rpartition(b"/")
    if (bool(slash) and unquote_to_bytes(last) == b"sequence") != of_sequence:
        allowed = "DELETE" if of_sequence else "GET"
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": allowed})
    try:
        return checked_id(unquote_to_bytes(before if of_sequence else user).decode(), "user_id")
    except UnicodeDecodeError:
        raise Invalid("`user_id` in the path is not UTF-8.", loc="user_id") from None
    except ValueError as e:
        raise Invalid(f"{e}.", loc="user_id") from None


def _check(user: UserProfile, manifest: Manifest, index: int) -> None:
    numbers, categories = manifest.profile_numbers, manifest.profile_categories
    for name, value in (user.profile or {}).items():
        loc = f"users[{index}].profile.{name}"
        if name in numbers:
            if isinstance(value, str):
                raise Invalid(f"Profile feature {name!r} is a number, found a string.", loc=loc)
        elif name not in categories:
            declared = ", ".join((*numbers, *categories)) or "none"
            raise Invalid(f"The bundle declares no profile feature {name!r}; it has {declared}.", loc=loc)
