"""User sequences, profiles and the catalogue in Redis (7.0 or later) or Valkey; `keys.py` says what is where.

Writing is two things: (1) *claim* the event ids for their users, because an id must be compared across
users, (2) write each user's batch. A server that has every slot does both for some dozens of users in one
script. A cluster runs a script in one slot only: there they are two round trips, first a script for each
memory of claims, then one for each user. A crash between the two leaves claims without events: nothing was
acknowledged, and the same user's retry passes (1) and completes (2). Another user's attempt at the same id is
refused for up to two windows. One script may end so too, when the server has no memory left half-way.

A command is sent a second time when the connection breaks or the first does not answer: scripts here may
be repeated. An event whose first answer was lost is then reported as `duplicate` instead of `accepted`.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from redis.exceptions import ClusterCrossSlotError, NoScriptError

from models.errors import BadInput, StoreUnavailable
from models.features import Exposures
from models.schema import FeedbackEvent, Profile, Video
from service.state import codec, upgrade
from service.state.cluster import ClusterClient
from service.state.connect import connect
from service.state.failures import unavailable
from service.state.keys import SEQUENCE_TTL_S, Keys
from service.state.multi_node_url import MultiNodeUrl
from service.state.pipelined_connection import PipelinedConnection
from service.state.policy import INFO, risks_of
from service.state.protocol import History, Outcome, UserState
from service.state.recording import (
    Group,
    claims_of,
    group_by_user,
    outcomes,
    refused_ids,
    split_into_calls,
    without_refused,
)
from service.state.replicated import ReplicatedClient
from service.state.scripts import (
    CATALOGUE_PUT,
    CATALOGUE_SINCE,
    CLAIMS,
    FORGET,
    RECORD,
    SEQUENCES,
    UPGRADE,
    Script,
)

Connection = PipelinedConnection | ClusterClient | ReplicatedClient
"""To the server that has the keys of a command: one server's, or a client that finds it among several."""

NOTHING: Final = Exposures.from_events([])
"""The sequence of a user who has only a profile."""

PAGE: Final = 1000
"""Catalogue entries a command: a few milliseconds of the server's time."""


class RedisStore:
    """Implements `Store` on a Redis server. Use `open`.

    Args:
        reads: a connection for what slates wait for.
        writes: another for everything else, so that no history waits behind a long answer or a long script's.
        display_url: what to call the server in messages; no secrets.
        sequence_length: exposures kept a user, the newest.
        idempotency_window_s: for how long at least an accepted event is known. At most twice as long.
        sequence_ttl_s: for how long sequence, profile and catalogue are kept after the last write; the
            catalogue also after the last `videos_since`, so it stays while any service runs.
        read_timeout_s: for one `read` as a whole: a late history is worth less than none.
        prefix: of every key.
        now_ms: the clock by which events are remembered; `None` is the server's own, the same for all
            workers. TTLs always go by the server's.
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
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._reads = reads
        self._writes = writes
        self._display_url = display_url
        self._length = sequence_length
        self._window_ms = round(idempotency_window_s * 1000)
        self._ttl_ms = round(sequence_ttl_s * 1000)
        self._read_timeout_s = read_timeout_s
        self._keys = Keys(prefix)
        self._now_ms = now_ms
        self._one_slot = False  # whether a script may touch the keys of one slot only; a cluster says so

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
            sequence, profile = await self._read_user(user_id)
            if sequence is None and profile is None:
                return None
            return UserState(
                [] if sequence is None else codec.decode_sequence(user_id, sequence),
                {} if profile is None else codec.decode_profile(profile),
            )

    async def history(self, user_id: str) -> History | None:
        with self._unavailable("read a history"):
            sequence, profile = await self._read_user(user_id)
            if sequence is None and profile is None:
                return None
            return History(
                NOTHING if sequence is None else codec.decode_exposures(sequence),
                {} if profile is None else codec.decode_profile(profile),
            )

    async def put_profile(self, user_id: str, profile: Profile) -> None:
        with self._unavailable("keep a profile"):
            key = self._keys.profile(user_id)
            await self._writes.execute_command("SET", key, codec.encode_profile(profile), "PX", self._ttl_ms)

    async def forget(self, user_id: str) -> bool:
        with self._unavailable("forget a user"):
            await self._upgrade(user_id)
            keys, sequence, *pages = await self._run(FORGET, self._keys.user(user_id))
            events = codec.decode_sequence(user_id, sequence) if sequence else []
            events += [event for page in pages for event in codec.decode_events(user_id, page)]
            await self._claims(b"release", claims_of([(user_id, events)]))
            return bool(keys)

    async def put_videos(self, videos: Sequence[Video]) -> None:
        epoch = uuid.uuid4().hex
        with self._unavailable("keep these videos"):
            for at in range(0, len(videos), PAGE):
                args: list[bytes | str | int] = [self._ttl_ms, epoch]
                for video in videos[at : at + PAGE]:
                    args += (video.video_id, codec.encode_video(video))
                await self._run(CATALOGUE_PUT, self._keys.catalogue, *args)

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
                new_epoch, new_version, *page = await self._run(CATALOGUE_SINCE, self._keys.catalogue, *args)
                epoch, version = new_epoch.decode(), new_version.decode()
                ids = [id_.decode() for id_ in page[::2]]
                videos = list(map(codec.decode_video, ids, map(upgrade.upgrade_video, page[1::2])))
            yield f"{epoch}:{version}", videos
            if len(videos) < PAGE:
                return

    async def risks(self) -> Mapping[str, str]:
        with self._unavailable("say how it keeps what it is given"):
            return risks_of(await self._writes.ask_primaries(INFO))

    async def ping(self) -> None:
        with self._unavailable("answer"):
            await self._reads.execute_command("PING")

    async def close(self) -> None:
        await self._reads.aclose()
        await self._writes.aclose()

    async def _read_user(self, user_id: str) -> tuple[bytes | None, bytes | None]:
        """Sequence and profile, in the present format."""
        async with asyncio.timeout(self._read_timeout_s):
            sequence, profile = await self._reads.execute_command(
                "MGET", self._keys.sequence(user_id), self._keys.profile(user_id)
            )
        if sequence is not None and upgrade.is_old(sequence):
            sequence = upgrade.upgrade_sequence(sequence)
        return sequence, profile

    async def _record(self, groups: Mapping[str, Sequence[FeedbackEvent]]) -> dict[str, list[Outcome]]:
        """Write each user's events, one call after the other: in between the server answers others."""
        by_user: dict[str, list[Outcome]] = {user_id: [] for user_id in groups}
        with self._unavailable("keep these events"):
            for call in split_into_calls(groups):
                for (user_id, _), part in zip(call, await self._write(call), strict=True):
                    by_user[user_id] += part
        return by_user

    async def _write(self, groups: Sequence[Group]) -> list[list[Outcome]]:
        """Write a call's worth: again without the events whose ids are another user's, and again after an
        upgrade for users whose sequence an older build wrote."""
        refused: set[tuple[str, str]] = set()
        answers: dict[str, tuple[bytes, bytes]] = {}
        pending = list(groups)
        while pending:
            answer = await self._claim_and_write(pending)
            if len(answer) == 1:
                refused |= refused_ids(pending, answer[0])
                pending = without_refused(pending, refused)
            else:
                written = zip(pending, answer[::2], answer[1::2], strict=True)
                answers |= {
                    user_id: (letters, records) for (user_id, _), letters, records in written if letters
                }
                pending = [group for group in pending if group[0] not in answers]
                for user_id, _ in pending:
                    await self._upgrade(user_id)
        return [outcomes(group, refused, *answers.get(group[0], (b"", b""))) for group in groups]

    async def _claim_and_write(self, groups: Sequence[Group]) -> list[bytes]:
        """Return letters and records of each group, or only the claims that are refused, see `record.lua`."""
        claims, limits = claims_of(groups), (self._length, self._ttl_ms, self._window_ms, self._now())
        batches = [codec.encode_events(events) for _, events in groups]
        users = [self._keys.user(user_id) for user_id, _ in groups]
        if not self._one_slot:
            keys = [key for shard in claims for key in self._keys.claims(shard)]
            keys += chain.from_iterable(users)
            try:
                answer: list[bytes] = await self._run(
                    RECORD, keys, *limits, len(claims), *claims.values(), *batches
                )
                return answer
            except ClusterCrossSlotError:
                self._one_slot = True
        if refused := b"".join(await self._claims(b"claim", claims)):
            return [refused]
        calls = [(keys, (*limits, batch)) for keys, batch in zip(users, batches, strict=True)]
        return [part for answer in await self._run_all(SEQUENCES, calls) for part in answer]

    async def _claims(self, action: bytes, claims: Mapping[int, bytes]) -> list[bytes]:
        """Claim or release event ids, in one round trip; returns the refused ones of each shard."""
        now = self._now()
        return await self._run_all(
            CLAIMS,
            [
                (self._keys.claims(shard), (action, self._window_ms, now, entries))
                for shard, entries in claims.items()
            ],
        )

    async def _upgrade(self, user_id: str) -> None:
        """Rewrite what an older build stored on a user."""
        keys = self._keys.user(user_id)
        sequence = await self._writes.execute_command("GET", keys[0])
        if sequence is not None and upgrade.is_old(sequence):
            args: list[bytes | int] = [sequence, upgrade.upgrade_sequence(sequence)]
            for number, key in ((2, keys[1]), (3, keys[2])):
                found = await self._writes.execute_command(
                    "HGETALL", key
                )  # redis-py makes a dictionary of it
                pages = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
                for field, page in upgrade.upgrade_pages(pages).items():
                    args += (number, field, page)
            await self._run(UPGRADE, keys, *args)

    def _now(self) -> str | int:
        return "" if self._now_ms is None else self._now_ms()

    async def _run(self, script: Script, keys: list[str], *args: bytes | str | int) -> Any:
        """Run a script by its digest, or by its text where the server does not have it yet."""
        try:
            return await self._writes.execute_command("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await self._writes.execute_command("EVAL", script.text, len(keys), *keys, *args)

    async def _run_all(
        self, script: Script, calls: Sequence[tuple[list[str], tuple[bytes | str | int, ...]]]
    ) -> list[Any]:
        """Run a script on several slots at once."""
        if len(calls) <= 1:
            return [await self._run(script, keys, *args) for keys, args in calls]
        answers = await self._writes.send_many(
            [("EVALSHA", script.sha, len(keys), *keys, *args) for keys, args in calls]
        )
        for index, answer in enumerate(answers):
            if isinstance(answer, NoScriptError):
                answers[index] = await self._run(script, calls[index][0], *calls[index][1])
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


def display_url(url: str) -> str:
    """Return the URL without user, password and options, for messages."""
    if nodes := MultiNodeUrl.parse(url):
        return nodes.display_url
    try:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            return f"unix://{parts.path}"
        if parts.scheme in ("redis", "rediss") and parts.hostname:
            return f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"
    except ValueError:
        pass
    return "an unreadable URL"
