"""What the service holds on users: reading it, giving profiles, forgetting."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from models.errors import Invalid, UnknownUser
from models.manifest import Manifest
from service.http import body as bodies
from service.http.auth import allow
from service.http.deadline import in_time
from service.http.openapi import operations as docs
from service.pipeline.label import CONCURRENT_USERS
from service.services import services_of, trace_of
from service.wire import Forgotten, Sequence, Stored, UserProfile

router = APIRouter()

_profiles: Final = msgspec.json.Decoder(list[UserProfile])
_encode: Final = msgspec.json.Encoder().encode


@router.get("/users/{user_id:path}/sequence", tags=["users"], openapi_extra=docs.SEQUENCE)
async def get_sequence(request: Request) -> Response:
    """Everything the service holds on a user: exposures, newest last, and profile features."""
    services, trace = services_of(request), trace_of(request)
    allow(request, services.keys, "read")
    user_id = bodies.path_id(request, "user_id")
    trace.mark("parse")
    async with in_time(request):
        state = await services.store.read(user_id)
    trace.mark("state")
    if state is None:
        raise UnknownUser(f"The service holds nothing on user {user_id!r}.")
    return Response(_encode(Sequence(user_id, state.events, state.profile)), media_type=bodies.JSON)


@router.delete("/users/{user_id:path}", tags=["users"], openapi_extra=docs.FORGET)
async def delete_user(request: Request) -> Response:
    """Forget a user: sequence, profile and idempotency records go at once, the id goes to the unlearning
    ledger, from which training learns whose exposures to leave out.

    A user the store does not know goes to the ledger too: the logs that were trained on may have had them.
    When this fails, nothing of the user or all of it may be gone; repeat it until it is 200. Twice in the
    ledger is as good as once.
    """
    services, trace = services_of(request), trace_of(request)
    allow(request, services.keys, "admin")
    if request.scope["raw_path"].endswith(b"/sequence"):  # not the user `…/sequence`: that slash is encoded
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"Allow": "GET"})
    user_id = bodies.path_id(request, "user_id")
    trace.mark("parse")
    # The ledger first: whoever has asked is then forgotten by what is trained next, though the store may be
    # away. The other way round a full disk would leave a user forgotten here and learned from again.
    await services.ledger.append(user_id)
    async with in_time(request):
        known = await services.store.forget(user_id)
    trace.mark("state")
    return Response(_encode(Forgotten(user_id, known)), media_type=bodies.JSON)


@router.put("/users", tags=["users"], openapi_extra=docs.PROFILES)
async def put_users(request: Request) -> Response:
    """Give profile features of users, by the names that the bundle declares (GET /v1/models).

    Everything is checked before anything is written. A profile replaces the one before; a missing name means
    unknown.
    """
    services, trace = services_of(request), trace_of(request)
    allow(request, services.keys, "label")
    manifest = services.slot.take().manifest
    bodies.content_type(request, bodies.JSON)
    body = await bodies.read(request, services.settings.max_body_bytes)
    users = bodies.decode(_profiles, body, root="users")
    bodies.limited(users, services.settings.max_events, "users", "REELRANK_MAX_EVENTS")
    for index, user in enumerate(users):
        _check(user, manifest, index)
    trace.mark("parse")
    places = asyncio.Semaphore(CONCURRENT_USERS)

    async def put(user: UserProfile) -> None:
        async with places:
            await services.store.put_profile(user.user_id, user.profile)

    # Two entries of one user would race; the later one is meant.
    last = {user.user_id: user for user in users}
    async with in_time(request):
        done = await asyncio.gather(*map(put, last.values()), return_exceptions=True)
    for result in done:
        if result is not None:
            raise result
    trace.mark("state")
    return Response(_encode(Stored(accepted=len(users))), media_type=bodies.JSON)


def _check(user: UserProfile, manifest: Manifest, index: int) -> None:
    numbers, categories = manifest.profile_numbers, manifest.profile_categories
    for name, value in user.profile.items():
        loc = f"users[{index}].profile.{name}"
        if name in numbers:
            if isinstance(value, str):
                raise Invalid(f"Profile feature {name!r} is a number, found a string.", loc=loc)
        elif name not in categories:
            declared = ", ".join((*numbers, *categories)) or "none"
            raise Invalid(f"The bundle declares no profile feature {name!r}; it has {declared}.", loc=loc)
