"""User sequences, profiles and the catalogue in Redis (7.0 or later) or Valkey; `keys.py` says what is where.

Writing is two round trips: (1) *claim* the event ids for their users, because an id must be compared across
users, (2) write each user's batch by a script, some dozens of users in one where a server has every slot. A
crash between the two leaves claims without events: nothing was acknowledged, and the same user's retry finds
its events missing and completes (2). Another user's attempt at the same id is refused for a window.

A command is sent a second time when the connection breaks or the first does not answer: all that is sent here
may be repeated. An event whose first answer was lost is then reported as `duplicate` instead of `accepted`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from redis.exceptions import ClusterCrossSlotError, NoScriptError, ResponseError

from models.errors import BadInput, StoreUnavailable
from models.features import HISTORY_LENGTH, NO_HISTORY, Exposures
from models.schema import FeedbackEvent, HistoryEntry, Profile, Video
from service.state import codec, upgrade
from service.state.connect import Connection, connect, send_all
from service.state.failures import unavailable
from service.state.keys import SEQUENCE_TTL_S, Keys, event_digest, user_digest
from service.state.multi_node_url import MultiNodeUrl, display_url
from service.state.pipelined_connection import PipelinedConnection
from service.state.policy import INFO, risks_of
from service.state.protocol import History, Outcome, UserState
from service.state.recording import UNREADABLE, Batch, Group, group_by_user, split_into_calls
from service.state.scripts import CATALOGUE_PUT, CATALOGUE_SINCE, SEQUENCES, Script

log = logging.getLogger("reelrank.store")

NOTHING: Final = Exposures.from_events([])
"""The sequence of a user who has only a profile."""

PAGE: Final = 1000
"""Catalogue entries or claims a command: a few milliseconds of the server's time."""

LENGTH_TTL_MS: Final = 600_000
"""For how long a service that keeps longer sequences is remembered after its last look at the risks."""


class RedisStore:
    """Implements `Store` on a Redis server. Use `open`.

    Args:
        reads: a connection for what slates wait for.
        writes: another for everything else, so that no history waits behind a long answer or a long script's.
        display_url: what to call the server in messages; no secrets.
        sequence_length: exposures kept a user, the newest.
        idempotency_window_s: for how long an accepted event is known, though it may have left the sequence.
        sequence_ttl_s: for how long sequence, profile, history and catalogue are kept after the last write;
            the catalogue also after the last `videos_since`, so it stays while any service runs.
        read_timeout_s: for one `read` as a whole: a late history is worth less than none.
        prefix: of every key.
    """

    def __init__(
        self,
        reads: Connection,
        writes: Connection,
        *,
        display_url: str,
        sequence_length: int = 100,
        idempotency_window_s: float = 86_400,
        sequence_ttl_s: float = SEQUENCE_TTL_S,
        read_timeout_s: float = 0.1,
        prefix: str = "rr",
    ) -> None:
        self._reads = reads
        self._writes = writes
        self._display_url = display_url
        self._length = sequence_length
        self._window_ms = round(idempotency_window_s * 1000)
        self._ttl_ms = round(sequence_ttl_s * 1000)
        self._read_timeout_s = read_timeout_s
        self._keys = Keys(prefix)
        self._one_slot = False  # whether a script may touch the keys of one slot only; a cluster says so
        self._old_claims: Final = upgrade.claim_keys(prefix)
        self._old_claims_until_s: float | None = None  # monotonic; unknown before the first write

    @classmethod
    def open(cls, url: str, *, timeout_s: float = 0.25, **options: Any) -> Self:
        """A store on the server at `url`. Connects at first use.

        Args:
            url: `redis://[user:password@]host[:port][/db]`, `rediss://…` (TLS) or `unix://[user:password@]/path[?db=…]`.
                A server whose certificate the system does not know is `rediss://…?ssl_ca_certs=/ca.pem`; one
                that asks for ours too, `…&ssl_certfile=/c.pem&ssl_keyfile=/k.pem`. `MultiNodeUrl` has those
                of clusters and sentinels.
            timeout_s: to connect, and to answer one command.
            options: as for the class.

        Raises:
            BadInput: this is no such URL, or a file that it names cannot be read.
        """
        shown = display_url(url)
        _refuse_missing_files(url)
        if nodes := MultiNodeUrl.parse(url):
            client = connect(nodes, timeout_s=timeout_s, connect_timeout_s=timeout_s, repeat=True)
            return cls(client, client, display_url=shown, **options)
        try:
            reads, writes = PipelinedConnection(url, timeout_s), PipelinedConnection(url, timeout_s)
        except ValueError:  # its text may hold a part of the password
            raise BadInput(
                f"The store's URL ({shown}) cannot be used. Write redis://[user:password@]host:port/db, "
                "rediss://… or unix:///path, with special characters of the password percent-encoded."
            ) from None
        return cls(reads, writes, display_url=shown, **options)

    async def record(self, user_id: str, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        return (await self._record({user_id: events}))[user_id]

    async def record_many(self, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        done = {
            user: iter(outcomes) for user, outcomes in (await self._record(group_by_user(events))).items()
        }
        return [next(done[event.user_id]) for event in events]

    async def read(self, user_id: str) -> UserState | None:
        with self._unavailable("read a user"):
            sequence, profile, history = found = await self._read_user(user_id)
            if found == (None, None, None):
                return None
            return UserState(
                self._decode(user_id, sequence, self._length),
                {} if profile is None else codec.decode_profile(profile),
                [] if history is None else codec.decode_history(history).rows(),
            )

    async def history(self, user_id: str) -> History | None:
        with self._unavailable("read a history"):
            sequence, profile, history = found = await self._read_user(user_id)
            if found == (None, None, None):
                return None
            return History(
                NOTHING
                if sequence is None
                else codec.decode_exposures(upgrade.upgrade_sequence(sequence), self._length),
                {} if profile is None else codec.decode_profile(profile),
                NO_HISTORY if history is None else codec.decode_history(history),
            )

    async def put_profile(self, user_id: str, profile: Profile) -> None:
        with self._unavailable("keep a profile"):
            key = self._keys.profile(user_id)
            await self._writes.execute_command("SET", key, codec.encode_profile(profile), "PX", self._ttl_ms)

    async def put_history(self, user_id: str, entries: Sequence[HistoryEntry]) -> None:
        with self._unavailable("keep a history"):
            key, newest = self._keys.history(user_id), entries[-HISTORY_LENGTH:]
            if newest:
                packed = codec.encode_history(newest)
                await self._writes.execute_command("SET", key, packed, "PX", self._ttl_ms)
            else:
                await self._writes.execute_command("UNLINK", key)

    async def forget(self, user_id: str) -> bool:
        with self._unavailable("forget a user"):
            keys = self._keys.user(user_id)
            if await self._has_old_claims():
                with suppress(ValueError, ResponseError):  # as below
                    await upgrade.release_former(
                        self._writes, self._old_claims, keys, user_id, self._window_ms
                    )
            sequence, *left = await self._writes.send_many(
                [("GET", keys[0]), ("HKEYS", keys[1]), ("HKEYS", keys[2])]
            )
            for answer in (sequence, *left):
                if isinstance(answer, Exception) and "WRONGTYPE" not in str(answer):
                    raise answer
            digests = [digest for found in left if isinstance(found, list) for digest in found]
            with suppress(ValueError):  # what cannot be read is forgotten too, and its claims expire
                events = self._decode(user_id, sequence, sys.maxsize)
                digests += [event_digest(event.event_id) for event in events]
            known = bool(await self._writes.execute_command("UNLINK", *keys))
            for at in range(0, len(digests), PAGE):  # if this does not come to its end, claims expire
                await self._release(user_id, digests[at : at + PAGE])
            return known

    async def put_videos(self, videos: Sequence[Video]) -> None:
        epoch = uuid.uuid4().hex
        with self._unavailable("keep these videos"):
            for at in range(0, len(videos), PAGE):
                args: list[bytes | str | int] = [self._ttl_ms, epoch]
                for video in videos[at : at + PAGE]:
                    args += (video.video_id, codec.encode_video(video))
                await CATALOGUE_PUT.run(self._writes, self._keys.catalogue, *args)

    async def videos_since(self, cursor: str) -> tuple[str, list[Video]]:
        videos: dict[str, Video] = {}
        async for page_cursor, page in self.video_pages(cursor):
            cursor = page_cursor
            videos.update((video.video_id, video) for video in page)
        return cursor, list(videos.values())

    async def video_pages(self, cursor: str = "") -> AsyncIterator[tuple[str, list[Video]]]:
        """Yield what `videos_since` returns in parts, for a catalogue too large for memory. A video that
        changes meanwhile may be there twice; the later one is newer.

        Yields:
            The cursor to go on with, and entries; at least once.

        Raises:
            StoreUnavailable: see `Store`.
        """
        epoch, _, version = cursor.partition(":")
        while True:
            with self._unavailable("read the catalogue"):
                args = (self._ttl_ms, epoch, version or "0", PAGE)
                new_epoch, new_version, *page = await CATALOGUE_SINCE.run(
                    self._writes, self._keys.catalogue, *args
                )
                epoch, version = new_epoch.decode(), new_version.decode()
                ids = [id_.decode() for id_ in page[::2]]
                videos = list(map(codec.decode_video, ids, map(upgrade.upgrade_video, page[1::2])))
            yield f"{epoch}:{version}", videos
            if len(videos) < PAGE:
                return

    async def risks(self) -> Mapping[str, str]:
        with self._unavailable("say how it keeps what it is given"):
            risks = risks_of(await self._writes.ask_primaries(INFO))
            greatest = int(await self._writes.execute_command("GET", self._keys.length) or 0)
            if greatest > self._length:
                risks["shortened"] = (
                    f"REELRANK_SEQUENCE_LENGTH is {self._length} here and {greatest} for another service on "
                    "it, whose sequences each write here cuts: set the same for all"
                )
            else:
                with suppress(ResponseError):  # it may take no writes
                    await self._writes.execute_command(
                        "SET", self._keys.length, self._length, "PX", LENGTH_TTL_MS
                    )
            return risks

    async def ping(self) -> None:
        with self._unavailable("answer"):
            await self._reads.execute_command("PING")

    async def close(self) -> None:
        await self._reads.aclose()
        await self._writes.aclose()

    async def _read_user(self, user_id: str) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Sequence, profile and history."""
        keys = self._keys
        names = keys.sequence(user_id), keys.profile(user_id), keys.history(user_id)
        async with asyncio.timeout(self._read_timeout_s):
            sequence, profile, history = await self._reads.execute_command("MGET", *names)
        return sequence, profile, history

    def _decode(self, user_id: str, sequence: bytes | None, length: int) -> list[FeedbackEvent]:
        if not isinstance(sequence, bytes):
            return []
        return codec.decode_sequence(user_id, upgrade.upgrade_sequence(sequence), length)

    async def _record(self, groups: Mapping[str, Sequence[FeedbackEvent]]) -> dict[str, list[Outcome]]:
        """Write each user's events, one call after the other: in between the server answers others."""
        by_user: dict[str, list[Outcome]] = {user_id: [] for user_id in groups}
        with self._unavailable("keep these events"):
            for call in split_into_calls(groups):
                for (user_id, _), part in zip(call, await self._write(call), strict=True):
                    by_user[user_id] += part
        return by_user

    async def _has_old_claims(self) -> bool:
        """Return whether claims of 0.2.0 may be there: they expire within a window or two of the upgrade."""
        if self._old_claims_until_s is None:
            lives_ms = await send_all(self._writes, [("PTTL", key) for key in self._old_claims])
            self._old_claims_until_s = time.monotonic() + max(lives_ms) / 1000
        return time.monotonic() < self._old_claims_until_s

    async def _write(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Claim the event ids of a call's worth, then write each user's batch: again after an upgrade for
        users on whom an older build has written."""
        claims = iter(await self._claim(groups))
        batches = [Batch(user_id, events, [next(claims) for _ in events]) for user_id, events in groups]
        answers: dict[str, tuple[bytes, bytes]] = {}
        while pending := [batch for batch in batches if batch.user_id not in answers and batch.kept]:
            written = await self._write_batches(pending)
            for batch, letters, records in zip(pending, written[::2], written[1::2], strict=True):
                if letters:
                    answers[batch.user_id] = letters, records
                    continue
                try:
                    await upgrade.upgrade_user(
                        self._writes, self._keys.user(batch.user_id), batch.user_id, self._window_ms
                    )
                except ValueError as e:
                    answers[batch.user_id] = UNREADABLE, str(e).encode()
        if damaged := {user: why for user, (letters, why) in answers.items() if letters == UNREADABLE}:
            log.warning(
                "what is stored on users cannot be read: their events are rejected",
                extra={
                    "user_digests": [user_digest(user_id).hex() for user_id in damaged],
                    "error": next(iter(damaged.values())).decode(),
                },
            )
        return [batch.outcomes(*answers.get(batch.user_id, (b"", b""))) for batch in batches]

    async def _claim(self, groups: Sequence[Group]) -> list[bool | None]:
        """Claim each event's id for its user -> `None` if it was free, whether it was this user's if not."""
        users = [user for user_id, events in groups for user in [user_digest(user_id)] * len(events)]
        event_ids = [event.event_id for _, events in groups for event in events]
        former: list[bytes | None] = [None] * len(event_ids)
        if await self._has_old_claims():
            former = await upgrade.former_owners(self._writes, self._old_claims, event_ids)
        claim, options = self._keys.claim, ("NX", "GET", "PX", self._window_ms)
        claimed = await send_all(
            self._writes,
            [
                ("SET", claim(event_digest(event_id)), old or user, *options)
                for event_id, user, old in zip(event_ids, users, former, strict=True)
            ],
        )
        return [
            (owner or old) == user if owner or old else None
            for owner, old, user in zip(claimed, former, users, strict=True)
        ]

    async def _release(self, user_id: str, digests: Sequence[bytes]) -> None:
        """Free event ids that are this user's."""
        keys, user = [self._keys.claim(digest) for digest in digests], user_digest(user_id)
        owners = await send_all(self._writes, [("GET", key) for key in keys])
        await send_all(
            self._writes, [("UNLINK", key) for key, owner in zip(keys, owners, strict=True) if owner == user]
        )

    async def _write_batches(self, batches: Sequence[Batch]) -> list[bytes]:
        """Return letters and records of each, see `sequences.lua`."""
        limits = (self._length, self._ttl_ms, self._window_ms)
        users = [self._keys.user(batch.user_id) for batch in batches]
        args = [(batch.claimed, codec.encode_events(batch.kept)) for batch in batches]
        if not self._one_slot:
            try:
                answer: list[bytes] = await SEQUENCES.run(
                    self._writes, list(chain.from_iterable(users)), *limits, *chain.from_iterable(args)
                )
                return answer
            except ClusterCrossSlotError:
                self._one_slot = True
        calls = [(keys, (*limits, *batch)) for keys, batch in zip(users, args, strict=True)]
        return [part for answer in await self._run_all(SEQUENCES, calls) for part in answer]

    async def _run_all(
        self, script: Script, calls: Sequence[tuple[list[str], tuple[bytes | str | int, ...]]]
    ) -> list[Any]:
        """Run a script on several slots at once."""
        if len(calls) <= 1:
            return [await script.run(self._writes, keys, *args) for keys, args in calls]
        answers = await self._writes.send_many(
            [("EVALSHA", script.sha, len(keys), *keys, *args) for keys, args in calls]
        )
        for index, answer in enumerate(answers):
            if isinstance(answer, NoScriptError):
                answers[index] = await script.run(self._writes, calls[index][0], *calls[index][1])
            elif isinstance(answer, Exception):
                raise answer
        return answers

    @contextmanager
    def _unavailable(self, action: str) -> Iterator[None]:
        try:
            with unavailable(f"The store at {self._display_url}", action):
                yield
        except ValueError as e:
            raise StoreUnavailable(
                f"The store at {self._display_url} holds what this build cannot read: {e}",
                reason="unreadable",
            ) from e


def _refuse_missing_files(url: str) -> None:
    """End the start, not every request, where the path of a certificate is wrong."""
    with suppress(ValueError):  # the client explains what is wrong with the URL
        for name, values in parse_qs(urlsplit(url).query).items():
            if name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile") and not os.access(values[-1], os.R_OK):
                raise BadInput(f"The store's URL names {values[-1]} as {name}, which cannot be read.")
