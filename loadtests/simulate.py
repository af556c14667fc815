"""`python -m loadtests.simulate`: simulated users drive a running service; their truth lies beside its log.

Users, videos and everything that is done come from a seed, times from the simulation, which ends now: a week
of sessions takes as long as the service needs to answer them.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import typer

from loadtests.command import LoadtestError, log_progress, make_app, run
from models.arrays import F64, I64
from models.schema import FLAGS, Candidate, FeedbackEvent
from service.client import Client
from service.wire import RerankReply
from training.simulator import Audience, Feedback, Population, PopulationConfig, Sessions

# Shape suffixes: N sessions, K positions, C candidates.

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
CANDIDATES: Final = 40
POSITIONS: Final = 5
MOST_SLATES: Final = 12
"""Of a session; a user who goes on is taken to leave."""
DEADLINE_MS: Final = 10_000.0
"""A slate that a busy host ranked without the history would not be the seed's."""
_THREADS: Final = 4
_PAUSE_S: Final = 1.0
"""Between two slates, so that the events of one are stored before the next is ranked."""


class Feed:
    """An audience that uses one service after another, as its clock goes on.

    Attributes:
        sessions: a row a session: user, start, watch time, exposures, mood at the end, version and arm.
        exposures: a row an exposure: its event and the interest that behaviour followed.
    """

    def __init__(self, population: Population, start_ms: int, seed: int) -> None:
        self.population = population
        self.sessions: list[dict[str, Any]] = []
        self.exposures: list[dict[str, Any]] = []
        self._audience = Audience(population, seed)
        self._random = np.random.default_rng([seed, 1])
        users, videos = population.config.users, len(population.duration_s)
        self._next_ms: I64 = start_ms + self._random.integers(DAY_MS, size=users)
        self._count = np.zeros(users, np.int64)
        self._user_ids = [f"u{user:0{len(str(users - 1))}d}" for user in range(users)]
        self._videos = [
            Candidate(video_id=f"v{v}", duration_s=duration, author_id=f"a{author}", tag=f"t{tag}")
            for v, duration, author, tag in zip(
                range(videos),
                population.duration_s.tolist(),
                population.author.tolist(),
                population.tag.tolist(),
                strict=True,
            )
        ]

    def run(
        self,
        client: Client,
        until_ms: int,
        *,
        most_sessions: int,
        users: int | None = None,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Put the videos, and let every user open sessions until a moment of the simulation.

        Args:
            client: of the service.
            until_ms: no session begins from then on.
            most_sessions: of a user, in this call.
            users: the first ones alone; by default all.
            on_progress: called with the sessions so far.

        Raises:
            ServiceError, Unreachable: the service refuses a request, or is away.
            LoadtestError: it rejects an event.
        """
        client.put_videos(self._videos)
        left = np.full(len(self._user_ids), most_sessions)
        if users is not None:
            left[users:] = 0
        with ThreadPoolExecutor(_THREADS) as pool:
            while len(due := np.flatnonzero((self._next_ms < until_ms) & (left > 0))):
                self._round(client, pool, due)
                left[due] -= 1
                on_progress(len(self.sessions))

    def write(self, folder: Path) -> None:
        """Write the truth: `sessions.ndjson`, `exposures.ndjson`, `population.npz` and its config as JSON."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in (("sessions", self.sessions), ("exposures", self.exposures)):
            (folder / f"{name}.ndjson").write_bytes(msgspec.json.Encoder().encode_lines(rows))
        arrays = {name: getattr(self.population, name) for name in self.population.__slots__}
        del arrays["config"]
        np.savez_compressed(folder / "population.npz", **arrays)
        (folder / "population.json").write_text(self.population.config.model_dump_json(indent=1) + "\n")

    def _round(self, client: Client, pool: ThreadPoolExecutor, users: I64) -> None:
        """Let each of some users have one session, side by side."""
        sessions = self._audience.open_sessions(users)
        begun_ms, exposures = self._next_ms[users], np.zeros(len(users), np.int64)
        last: list[RerankReply | None] = [None] * len(users)
        for step in range(MOST_SLATES):
            rows = np.flatnonzero(sessions.is_open)
            if not len(rows):
                break
            now_ms = begun_ms + ((sessions.elapsed_s + step * _PAUSE_S) * 1000).astype(np.int64)
            slate_NK = np.zeros((len(users), POSITIONS), np.int64)
            candidates_NC = self.population.draw_candidates(len(rows), CANDIDATES, self._random)

            def rank(row: int, candidates: I64, step: int = step, now_ms: I64 = now_ms) -> RerankReply:
                user = int(users[row])
                return client.rerank(
                    self._user_ids[user],
                    [self._videos[v] for v in candidates],
                    request_id=f"{self._user_ids[user]}-{self._count[user]}-{step}",
                    timestamp_ms=int(now_ms[row]),
                    top_k=POSITIONS,
                    deadline_ms=DEADLINE_MS,
                )

            for row, reply in zip(rows, pool.map(rank, rows.tolist(), candidates_NC), strict=True):
                slate_NK[row] = [int(item.video_id[1:]) for item in reply.items]
                last[row] = reply
            feedback = sessions.step(slate_NK)
            exposures += feedback.is_shown.sum(axis=1)
            self._send(client, users, slate_NK, feedback, begun_ms + int(step * _PAUSE_S * 1000), step)
        self._close(sessions, begun_ms, exposures, last)

    def _send(
        self, client: Client, users: I64, slate_NK: I64, feedback: Feedback, start_ms: I64, step: int
    ) -> None:
        events = []
        for row, k in zip(*feedback.is_shown.nonzero(), strict=True):
            user, video = int(users[row]), self._videos[slate_NK[row, k]]
            request_id = f"{self._user_ids[user]}-{self._count[user]}-{step}"
            event = FeedbackEvent(
                event_id=f"{request_id}-{k}",
                user_id=self._user_ids[user],
                video_id=video.video_id,
                timestamp_ms=int(start_ms[row] + feedback.begins_s[row, k] * 1000) + 1,
                watch_time_s=float(feedback.watch_time_s[row, k]),
                duration_s=video.duration_s,
                author_id=video.author_id,
                tag=video.tag,
                request_id=request_id,
                position=int(k) + 1,
                **dict(zip(FLAGS, feedback.flags[row, k].tolist(), strict=True)),
            )
            events.append(event)
            self.exposures.append(
                {"event_id": event.event_id, "interest": round(float(feedback.interest[row, k]), 4)}
            )
        for reply in client.label_all(events):
            if reply.rejected:
                raise LoadtestError(f"the service rejected an event: {reply.rejected[0].detail}")

    def _close(
        self, sessions: Sessions, begun_ms: I64, exposures: I64, last: list[RerankReply | None]
    ) -> None:
        users = sessions.users
        for row, user in enumerate(users.tolist()):
            reply = last[row]
            assert reply is not None
            self.sessions.append(
                {
                    "user_id": self._user_ids[user],
                    "start_ms": int(begun_ms[row]),
                    "watch_time_s": round(float(sessions.watch_time_s[row]), 3),
                    "exposures": int(exposures[row]),
                    "mood": round(float(sessions.mood[row]), 3),
                    "version": reply.model_version,
                    "arm": reply.arm if isinstance(reply.arm, str) else None,
                }
            )
        self._count[users] += 1
        ended_s: F64 = sessions.elapsed_s + MOST_SLATES * _PAUSE_S + sessions.draw_gaps_s()
        self._next_ms[users] = begun_ms + (ended_s * 1000).astype(np.int64)


def main(
    url: Annotated[str, typer.Option(help="Of the service.")],
    out: Annotated[Path, typer.Option(help="A new folder for the truth.")],
    users: Annotated[int, typer.Option(min=1, max=100_000)] = 200,
    sessions: Annotated[int, typer.Option(min=1, max=1_000, help="Of a user at most.")] = 5,
    days: Annotated[float, typer.Option(min=0.1, max=365, help="Of the simulation at most.")] = 7.0,
    videos: Annotated[int, typer.Option(min=CANDIDATES, max=100_000)] = 600,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    key: Annotated[str, typer.Option(help="API key.", envvar="REELRANK_KEY")] = "",
) -> None:
    """Let simulated users open sessions, watch the service's slates and send feedback, over the last days."""
    if out.exists():
        raise LoadtestError(f"{out} exists; name a new folder.")
    population = Population.draw(PopulationConfig(users=users, videos=videos), seed)
    end_ms = int(datetime.now(UTC).timestamp() * 1000)
    start_ms = end_ms - int(days * DAY_MS)
    feed = Feed(population, start_ms, seed)
    with Client(url, key=key) as client:
        feed.run(
            client,
            end_ms - HOUR_MS,  # what begins before it has ended by now
            most_sessions=sessions,
            on_progress=lambda count: log_progress("simulate", f"{count:,} sessions"),
        )
    feed.write(out)
    watched_s = np.array([row["watch_time_s"] for row in feed.sessions])
    print(
        f"{len(watched_s):,} sessions of {users:,} users, {len(feed.exposures):,} exposures, "
        f"{watched_s.mean():.1f} s a session; wrote {out}"
    )


app = make_app("simulate", main)

if __name__ == "__main__":
    run(app)
