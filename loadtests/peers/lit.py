"""The ranker behind LitServe: `python -m loadtests.peers.lit`, in an environment of its own."""

import os
from pathlib import Path
from typing import Any

import litserve
import redis

from loadtests.peers.ranking import BUNDLE, PORT, STORE, WORKERS, Ranker, Request, history_key


class RerankAPI(litserve.LitAPI):
    """The setup of a worker and the three steps of a request, as in LitServe's guide.

    The steps run in the worker's process, so their input and output are pickled. Plain dictionaries are
    cheaper there than pydantic objects, which the guide has too.
    """

    def setup(self, device: str) -> None:
        """Load graph and store once a worker."""
        self._ranker = Ranker(Path(os.environ[BUNDLE]))
        self._store = redis.Redis.from_url(os.environ[STORE])

    def decode_request(self, request) -> Request:  # without a type it gets the decoded JSON
        """Validate the request."""
        return Request.model_validate(request)

    def predict(self, x: Request) -> list[dict[str, Any]]:
        """Rank one slate."""
        return self._ranker.rank(x, self._store.get(history_key(x.user_id)))

    def encode_response(self, output: list[dict[str, Any]]) -> dict[str, Any]:
        """Return what LitServe encodes as JSON."""
        return {"items": output}


if __name__ == "__main__":
    workers = int(os.environ[WORKERS])
    server = litserve.LitServer(
        RerankAPI(api_path="/rerank"),
        accelerator="cpu",
        workers_per_device=workers,
        fast_queue=True,  # advised above 100 requests a second
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ[PORT]),
        num_api_servers=workers,  # its default
        log_level="warning",
        generate_client_file=False,
    )
