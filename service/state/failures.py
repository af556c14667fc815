"""What a Redis client raises -> the one error that the service knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as NotInTime

from models.errors import StoreUnavailable

_UNAUTHENTICATED = "unauthenticated"
"""What a server that asks for a password says to a command of more than ten words, before it looks at it."""


class ShardAway(RedisError):
    """Of several primaries the one that has this user is away; the others answer."""


class NotReplicated(RedisError):
    """A write was done, and not by as many replicas as it must be before it counts."""


@contextmanager
def unavailable(whose: str, what: str) -> Iterator[None]:
    """Around commands.

    Args:
        whose: begins the message, e.g. `The store at redis://host`; no secrets.
        what: what could not be done, e.g. `read a user`.

    Raises:
        StoreUnavailable: the server is away, refuses, or did not answer in time.
    """
    try:
        yield
    except (RedisError, OSError, TimeoutError) as e:
        said = str(e) or type(e).__name__
        if _UNAUTHENTICATED in said:
            said = f"Authentication required ({said})"
        raise StoreUnavailable(f"{whose} could not {what}: {said}", reason=reason_of(e)) from e


def reason_of(error: Exception) -> str:
    """`StoreUnavailable.reason`. The order matters: some of the client's errors are kinds of others."""
    match error:
        case ShardAway() | ClusterDownError():
            return "shard"
        case NotReplicated():
            return "replicas"
        case ResponseError() if "NOREPLICAS" in str(error):
            return "replicas"
        case BusyLoadingError():
            return "loading"
        case AuthenticationError() | AuthorizationError() | NoPermissionError():
            return "denied"
        case ResponseError() if _UNAUTHENTICATED in str(error):
            return "denied"
        case OutOfMemoryError():
            return "full"
        case ReadOnlyError():
            return "read_only"
        case NotInTime() | TimeoutError():
            return "timeout"
        case NotConnected() | OSError():
            return "connection"
        case ResponseError() if "MISCONF" in str(error):
            return "disk"
    return "other"
