"""Where users' sequences live: `RedisStore` on a server by URL or on the `EmbeddedServer`.

`GuardedStore` puts circuit breakers before either. `MemoryStore` is the model that tests compare with;
no program uses it.
"""

from service.state.embedded import EmbeddedServer
from service.state.guarded import GuardedStore
from service.state.memory import MemoryStore
from service.state.protocol import Outcome, Store, UserState
from service.state.redis import RedisStore

__all__ = ["EmbeddedServer", "GuardedStore", "MemoryStore", "Outcome", "RedisStore", "Store", "UserState"]
