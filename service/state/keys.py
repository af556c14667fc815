"""Where things lie in Redis. Every key of a user has the same hash tag, so that one script may touch them
all on a cluster; a video or an event id is never in a slot that a user's script needs.

                             what                                                   time to live
    rr:s:{user}     string   the sequence, as in codec.py                           from the last `record`
    rr:p:{user}     string   the profile, MessagePack                               from the last write
    rr:h:{user}     string   the history from before the events, as in codec.py        from the last write
    rr:d:{user}     hash     event digest -> record that left the sequence          2 windows from the first
    rr:e:{user}     hash     the generation of `rr:d` before                        its rest
    rr:k:<digest>   string   user digest: whose event this is                       1 window from the event
    rr:m:{videos}   hash     epoch and version of the catalogue                     from the last write or use
    rr:v:{videos}   hash     video id -> entry                                      the same
    rr:l:{videos}   zset     video id by the version that last changed it           the same
    rr:length       string   the greatest sequence length of services on the store  10 minutes

Until a window or two after an upgrade from 0.2.0 there are also claims as it left them, see `upgrade.py`.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b, sha1
from typing import Final

SEQUENCE_TTL_S: Final = 90 * 86_400
"""Default time after the last write at which a sequence or a profile expires."""


class Keys:
    """The names above, for one prefix."""

    def __init__(self, prefix: str = "rr") -> None:
        self._prefix = prefix
        self._of_user: Final = [f"{prefix}:{kind}" for kind in "sdeph"]
        self.catalogue: Final = [f"{prefix}:{kind}:{{videos}}" for kind in "mvl"]
        self._claim: Final = f"{prefix}:k:".encode()
        self.length: Final = f"{prefix}:length"

    def sequence(self, user_id: str) -> str:
        return self._user("s", user_id)

    def profile(self, user_id: str) -> str:
        return self._user("p", user_id)

    def history(self, user_id: str) -> str:
        return self._user("h", user_id)

    def user(self, user_id: str) -> list[str]:
        """Every key of a user, in the order the scripts take them."""
        rest = f":{{{_tag(user_id)}}}"
        return [prefix + rest for prefix in self._of_user]

    def claim(self, event_digest: bytes) -> bytes:
        return self._claim + event_digest

    def _user(self, kind: str, user_id: str) -> str:
        return f"{self._prefix}:{kind}:{{{_tag(user_id)}}}"


def _tag(user_id: str) -> str:
    # It ends at the first brace: without this, `}x` would have an empty one, and its keys many slots.
    return user_id.replace("%", "%25").replace("}", "%7D") if "}" in user_id or "%" in user_id else user_id


def event_digest(event_id: str) -> bytes:
    """What claims and records that left a sequence go by; `left.lua` computes it too.

    Two ids of a billion in a window share 64 bits with probability 3%, and then one event is refused as a
    conflict.
    """
    return sha1(event_id.encode(), usedforsecurity=False).digest()[:8]


@lru_cache(maxsize=1 << 15)
def user_digest(user_id: str) -> bytes:
    """What a claim says of the user, and what the log calls one.

    Two users share 32 bits one time in four billion, and then a conflict between them is missed.
    """
    return blake2b(user_id.encode(), digest_size=4).digest()
