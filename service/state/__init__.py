"""Where users' sequences live: `RedisStore` on a server by URL or on the `EmbeddedServer`.

`GuardedStore` puts circuit breakers before either.
"""

from service.state.embedded import EmbeddedServer
from service.state.guarded import GuardedStore
from service.state.opening import open_store
from service.state.protocol import Outcome, Store, UserState
from service.state.redis import RedisStore

__all__ = ["EmbeddedServer", "GuardedStore", "Outcome", "RedisStore", "Store", "UserState", "open_store"]
