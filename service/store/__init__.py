"""Where users' sequences live: `RedisStore` on a server by URL or on the `EmbeddedServer`.

`GuardedStore` puts circuit breakers before either. `MemoryStore` is the model that tests compare with;
no program uses it.
"""

from service.store.embedded import EmbeddedServer
from service.store.guarded import GuardedStore
from service.store.memory import MemoryStore
from service.store.protocol import Outcome, Store, UserState
from service.store.redis import RedisStore

__all__ = ["EmbeddedServer", "GuardedStore", "MemoryStore", "Outcome", "RedisStore", "Store", "UserState"]
