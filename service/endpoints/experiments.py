"""Experiments: which run, and their start and end."""

from __future__ import annotations

from typing import Final

import anyio.to_thread
import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from service.http.openapi import operations as docs
from service.http.request import json_response
from service.inference.experiments import NewExperiment
from service.pipeline.decoding import decode
from service.services import Services

_new: Final = msgspec.json.Decoder(NewExperiment)


def experiment_routes(services: Services) -> APIRouter:
    """Return the routes of /v1/experiments."""
    router = APIRouter(tags=["experiments"])
    bundles, keys = services.bundles, services.keys

    @router.get("/v1/experiments", openapi_extra=docs.EXPERIMENTS)
    @keys.require("read")
    async def get_experiments(request: Request) -> Response:
        """All experiments, oldest first; one without `stopped_ms` runs. One that should run and cannot is
        named in `refused` of GET /v1/models."""
        return json_response(await anyio.to_thread.run_sync(bundles.experiments.read))

    @router.post("/v1/experiments", openapi_extra=docs.START_EXPERIMENT)
    @keys.require("admin")
    async def post_experiment(request: Request) -> Response:
        """Let the arms of an experiment answer a share of the users, in equal parts.

        Its versions are loaded, self-tested and warmed first; if any of that fails nothing changes. A hash of
        the user's id decides, so that a user has one arm as long as it runs, and is in one experiment at
        most. It stays so after a restart. The other workers follow within a second.
        """
        new = decode(_new, await services.reader.json(request))
        return json_response(await bundles.start_experiment(new))

    @router.post("/v1/experiments/{name}:stop", openapi_extra=docs.STOP_EXPERIMENT)
    @keys.require("admin")
    async def post_stop(request: Request) -> Response:
        """End an experiment: its users are answered as all others. Nothing happens to one that has ended."""
        return json_response(await bundles.stop_experiment(request.path_params["name"]))

    return router
