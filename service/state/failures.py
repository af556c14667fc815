"""Errors of a Redis client, mapped to `StoreUnavailable`."""

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
"""In the reply of a server that requires a password to a command of more than ten words."""
_NO_RIGHT = ("ACL failure in script", "executing the script can't run")
"""In the reply of Valkey or Redis to a script with a command that the user may not do."""


class ShardAway(RedisError):
    """The primary that has this user is unreachable; the other primaries answer."""


class NotReplicated(RedisError):
    """A write was done, but by fewer replicas than it must be before it counts."""


@contextmanager
def unavailable(server: str, action: str) -> Iterator[None]:
    """Translate the errors of the commands inside.

    Args:
        server: begins the message, e.g. `The store at redis://host`; no secrets.
        action: completes "could not", e.g. `read a user`.

    Raises:
        StoreUnavailable: the server is away, refuses, or did not answer in time.
    """
    try:
        yield
    except (RedisError, OSError, TimeoutError) as e:
        reply = str(e) or type(e).__name__
        if _UNAUTHENTICATED in reply:
            reply = f"Authentication required ({reply})"
        raise StoreUnavailable(f"{server} could not {action}: {reply}", reason=reason_of(e)) from e


def reason_of(error: Exception) -> str:
    """Return `StoreUnavailable.reason`; the order matters: some of these errors are kinds of others."""
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
        case ResponseError() if any(text in str(error) for text in (_UNAUTHENTICATED, *_NO_RIGHT)):
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
