"""Where things lie in Redis. Every key of a user has the same hash tag, so that one script may touch them
all on a cluster; a video or an event id is never in a slot that a user's script needs.

                             what                                                   time to live
    rr:s:{user}     string   the sequence, as in codec.py                           from the last `record`
    rr:p:{user}     string   the profile, MessagePack                               from the last write
    rr:d:{user}     hash     what left the sequence, in pages (see append.lua)      1 to 2 windows
    rr:e:{user}     hash     the generation of `rr:d` before                        1 window
    rr:c:{00..63}   hash     event digest -> user digest, by the event's digest     1 to 2 windows
    rr:o:{00..63}   hash     the generation of `rr:c` before                        1 window
    rr:m:{videos}   hash     epoch and version of the catalogue                     from the last write or use
    rr:v:{videos}   hash     video id -> entry                                      the same
    rr:l:{videos}   zset     video id by the version that last changed it           the same
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

SEQUENCE_TTL_S: Final = 90 * 86_400
"""Default time after the last write at which a sequence or a profile expires."""

SHARDS: Final = 64
"""Hashes that the claims on event ids are spread over: one round trip for a batch stays few commands,
and each holds few enough fields to be let go without a pause."""


class Keys:
    """The names above, for one prefix."""

    def __init__(self, prefix: str = "rr") -> None:
        self._prefix = prefix
        self._of_user: Final = [f"{prefix}:{kind}" for kind in "sdep"]
        self._claims: Final = [
            [f"{prefix}:{kind}:{{{shard:02d}}}" for kind in "co"] for shard in range(SHARDS)
        ]
        self.catalogue: Final = [f"{prefix}:{kind}:{{videos}}" for kind in "mvl"]

    def sequence(self, user_id: str) -> str:
        return self._user("s", user_id)

    def profile(self, user_id: str) -> str:
        return self._user("p", user_id)

    def user(self, user_id: str) -> list[str]:
        """Every key of a user, in the order the scripts take them."""
        rest = f":{{{_tag(user_id)}}}"
        return [prefix + rest for prefix in self._of_user]

    def claims(self, shard: int) -> list[str]:
        return self._claims[shard]

    def _user(self, kind: str, user_id: str) -> str:
        return f"{self._prefix}:{kind}:{{{_tag(user_id)}}}"


def _tag(user_id: str) -> str:
    # It ends at the first brace: without this, `}x` would have an empty one, and its keys many slots.
    return user_id.replace("%", "%25").replace("}", "%7D") if "}" in user_id or "%" in user_id else user_id


def claim(user_tag: bytes, event_id: str) -> tuple[int, bytes]:
    """The shard an event id is claimed in, and the claim: 8 bytes of its digest, 4 of the user's.

    Two ids of a billion in a window share 64 bits with probability 3%, and then one event is refused as a
    conflict; two users share 32 bits one time in four billion, and then a conflict between them is missed.
    """
    digest = blake2b(event_id.encode(), digest_size=8).digest()
    return digest[0] % SHARDS, digest + user_tag


def user_tag(user_id: str) -> bytes:
    """What a claim says of the user."""
    return blake2b(user_id.encode(), digest_size=4).digest()
