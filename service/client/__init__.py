"""Typed clients of the service with deadlines, retries and two-way streams.

    with Client("http://127.0.0.1:8000", key="…") as client:
        client.label([FeedbackEvent(event_id="e1", user_id="u1", …)]).labels[0].label
        client.rerank("u1", [Candidate(video_id="v1"), Candidate(video_id="v2")]).items[0].video_id

`AsyncClient` has the same methods to await. Replies are the structs of `service.wire`.
"""

from service.client._clients import AsyncClient, Client
from service.client._errors import Busy, Faulty, Refused, ServiceError, StreamCut, Unreachable
from service.client._methods import Event
from service.client._retries import Retries
from service.client._stream import Answer

__all__ = [
    "Answer",
    "AsyncClient",
    "Busy",
    "Client",
    "Event",
    "Faulty",
    "Refused",
    "Retries",
    "ServiceError",
    "StreamCut",
    "Unreachable",
]
