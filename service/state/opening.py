"""The one place where a program opens its store, so that all of them keep the same for as long."""

from __future__ import annotations

from service.settings import Settings
from service.state.redis import RedisStore


def open_store(settings: Settings) -> RedisStore:
    """Return the store of the settings, which have its URL. It connects at first use.

    Raises:
        BadInput: the URL is none, or names a file that cannot be read.
    """
    assert settings.store is not None, "the commands require it; `serve` sets that of the embedded server"
    return RedisStore.open(
        settings.store,
        sequence_length=settings.sequence_length,
        idempotency_window_s=settings.idempotency_window_s,
        sequence_ttl_s=settings.retention_s,
    )
