"""Where users' sequences live: `RedisStore` on a server by URL or on the `EmbeddedServer`, `MemoryStore` for tests."""

from service.store.memory import MemoryStore
from service.store.protocol import Outcome, Store, UserState
from service.store.redis import RedisStore

__all__ = ["MemoryStore", "Outcome", "RedisStore", "Store", "UserState"]
