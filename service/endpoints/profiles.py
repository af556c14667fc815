"""PUT /users: profile features."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import Invalid
from models.manifest import Manifest
from service.http.auth import Keys
from service.http.openapi import operations as docs
from service.http.request import RequestReader, json_response
from service.inference.serving_set import Serving
from service.pipeline.decoding import check_count, decode
from service.pipeline.fan_out import for_each_user
from service.settings import Settings
from service.state.protocol import Store
from service.telemetry.trace import current_trace
from service.wire import Stored, UserProfile

_profiles: Final = msgspec.json.Decoder(list[UserProfile])


def profile_routes(
    store: Store, serving_set: Serving, reader: RequestReader, keys: Keys, settings: Settings
) -> APIRouter:
    """Return the route of PUT /users."""
    router = APIRouter()

    @router.put("/users", tags=["users"], openapi_extra=docs.PROFILES)
    @keys.require("label")
    async def put_users(request: Request) -> Response:
        """Give profile features of users, by the names that the bundle declares (GET /v1/models).

        Everything is checked before anything is written. A profile replaces the one before; a missing name
        means unknown.
        """
        manifest = serving_set.active().manifest
        users = decode(_profiles, await reader.json(request), root="users")
        check_count(users, settings.max_events, "users", "REELRANK_MAX_EVENTS")
        for index, user in enumerate(users):
            _check(user, manifest, index)
        current_trace().mark("parse")
        last = {user.user_id: user.profile for user in users}  # two entries of one user would race
        async with reader.time_limit(request):
            await for_each_user(lambda entry: store.put_profile(*entry), last.items())
        current_trace().mark("state")
        return json_response(Stored(accepted=len(users)))

    return router


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
