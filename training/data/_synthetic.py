"""A seeded world whose truth is known: interest, counterfactual watch time, and the platform's utility.

Made so that what the methods claim can be checked (all our choice; no source prescribes it):

* interest `ρ_ui` does not depend on the duration, while the watch time and the chance of being shown both
  do: duration is a confounder, the backdoor that D2Q and DML close;
* counterfactual watch time `w_c = c / (-ln ρ) - 1`, so that CWM is well specified;
* observed watch time is a skip, a part, the whole, or several times the whole: 3-4 peaks of the ratio;
* in a hurried session people skip whatever they are shown: such skips tell nothing of interest;
* explicit feedback is rare, and `u(w, d, e)` is what the platform truly wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from models.errors import BadInput
from models.schema import EXPLICIT, FLAGS
from training.data._dataset import Dataset
from training.data._interactions import I64
from training.data._tables import Info, ProfileSchema, RowCounts, Tables, in_order, local_days

# Shape suffixes: N exposures, U users, V videos, D latent dimensions, F flags.

F64 = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SKIP: Final = 0
PART: Final = 1
WHOLE: Final = 2
REPLAY: Final = 3


class SyntheticConfig(BaseModel):
    """Size and shape of the world. The defaults take a second or two."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: int = Field(600, gt=0)
    videos: int = Field(800, gt=1)
    exposures: int = Field(40_000, gt=0)
    """Rows. A user sees a video at most once, so at most users * videos / 2."""
    days: int = Field(12, gt=0)
    start: str = "2024-01-01"
    """First day, UTC."""
    tags: int = Field(12, gt=1)
    authors: int = Field(150, gt=0)
    latent: int = Field(8, gt=0)

    interest_scale: float = 2.5
    """Spread of logit ρ over pairs of user and video."""
    duration_log_mean: float = 3.3
    duration_log_std: float = 0.9
    """Durations are log-normal, clipped to 5-400 s; exp(3.3) = 27 s."""
    duration_exposure: float = 0.8
    """How much more a video is shown for one standard deviation of log duration: the confounding."""
    popularity: float = 0.8
    """How uneven exposure is for other reasons."""
    policy: float = 0.5
    """How well the policy that made the log already follows interest."""

    watch_scale_s: float = 12.0
    """`c` of the counterfactual watch time: ρ = 0.5 would be watched 16 s."""
    watch_noise: float = 0.35
    """Standard deviation of the log of its multiplicative noise."""
    skip_s: float = 1.5
    """Mean watch time of a skip."""
    skip_base: float = 0.35
    """Chance of a skip at ρ = 0.5; it falls with ρ."""
    hurried_sessions: float = 0.2
    """Share of sessions in which skips say nothing."""
    hurried_skip: float = 0.6
    """Chance of such a skip on each exposure of a hurried session."""
    replay: float = 0.35
    """Chance that a video watched to the end loops, at ρ near 1."""
    session_length: float = 12.0
    """Mean exposures a session."""

    rates: dict[str, float] = {
        "like": 0.03,
        "follow": 0.012,
        "comment": 0.015,
        "forward": 0.01,
        "hate": 0.005,
        "profile_enter": 0.02,
    }
    """Expected share of rows with each flag."""
    explicit_slope: float = 1.5
    """`a` of P(flag) = σ(a logit ρ - b); negative for `hate`. `b` is solved for `rates`."""
    flip_fraction: float = Field(0.0, ge=0, le=1)
    """Share of rows whose behaviour follows 1 - ρ instead of ρ: what unlearning should forget."""


@dataclass(frozen=True)
class World:
    """The log and its truth. Row n is row n of `dataset().interactions(...)`, whatever the vocabulary."""

    config: SyntheticConfig
    user: I64
    """`[N]` ascending. `Interactions.user` numbers only the users who have rows."""
    video: I64
    """`[N]`"""
    timestamp_ms: I64
    """`[N]` strictly increasing within a user."""
    session: I64
    """`[N]` number of the session, over all users."""
    hurried: Bools
    """`[N]` whether the session is one whose skips tell nothing."""
    duration_s: F64
    """`[N]`"""
    interest: F64
    """`[N]` ρ_ui in (0, 1), the truth even where `flipped`."""
    flipped: Bools
    """`[N]` rows that behaved by 1 - ρ."""
    counterfactual_s: F64
    """`[N]` how long the user would have watched a video without an end."""
    state: I64
    """`[N]` SKIP, PART, WHOLE or REPLAY."""
    watch_time_s: F64
    """`[N]` observed."""
    flags: Bools
    """`[N, 6]` in the order of `FLAGS`."""
    utility: F64
    """`[N]` in [0, 1]: `planted_utility` of the row."""
    user_latent: F64
    """`[U, D]`"""
    video_latent: F64
    """`[V, D]`"""
    video_duration_s: F64
    """`[V]`"""
    video_popularity: F64
    """`[V]` prior probability of being shown, sums to 1."""
    video_author: I64
    """`[V]`"""
    video_tag: I64
    """`[V]`"""
    segment: I64
    """`[U]` which of four crowds a user belongs to: a profile feature that tells of interest."""
    age_days: F64
    """`[U]` a profile feature that tells of nothing."""

    def __len__(self) -> int:
        return len(self.user)

    def all_interest(self) -> F64:
        """`[U, V]` ρ of every pair, seen or not."""
        return _interest(self.config, self.user_latent @ self.video_latent.T)

    def dataset(self) -> Dataset:
        """The world as `load` would give it, without a folder."""
        return Dataset(tables_of(self))


def planted_utility(watch_time_s: F64, duration_s: F64, explicit: Bools) -> F64:
    """What the platform truly wants of an exposure: attention, satisfaction, and a sign of it.

        u(w, d, e) = 0.45 (1 - exp(-w / 20 s)) + 0.25 min(w / d, 1) + 0.3 e        in [0, 1]

    No single rule (watch time, ratio, completion, a like) orders exposures as it does.

    Args:
        watch_time_s: `[N]`.
        duration_s: `[N]`, > 0.
        explicit: `[N]` any of like, follow, comment, forward.
    """
    attention = 1.0 - np.exp(-watch_time_s / 20.0)
    out: F64 = 0.45 * attention + 0.25 * np.minimum(watch_time_s / duration_s, 1.0) + 0.3 * explicit
    return out


def synthetic_world(config: SyntheticConfig | None = None, seed: int = 0) -> World:
    """Make a world. The same config and seed give the same world.

    Raises:
        ValueError: more exposures than half of all pairs.
    """
    config = config or SyntheticConfig()
    if config.exposures > config.users * config.videos / 2:
        raise ValueError("`exposures` must be at most users * videos / 2: a video is shown once to a user")
    rng = np.random.default_rng(seed)
    crowd_KD = rng.normal(size=(4, config.latent))
    segment = rng.integers(4, size=config.users)
    user_UD = 0.7 * crowd_KD[segment] + rng.normal(size=(config.users, config.latent)) * 0.7
    taste_TD = rng.normal(size=(config.tags, config.latent))
    author_tag = rng.integers(config.tags, size=config.authors)
    author = rng.integers(config.authors, size=config.videos)
    tag = author_tag[author]
    video_VD = 0.7 * taste_TD[tag] + rng.normal(size=(config.videos, config.latent)) * 0.7

    log_duration = rng.normal(size=config.videos)
    video_duration = np.clip(
        np.exp(config.duration_log_mean + config.duration_log_std * log_duration), 5.0, 400.0
    ).round(3)
    appeal = config.popularity * rng.normal(size=config.videos) + config.duration_exposure * log_duration
    popularity = np.exp(appeal) / np.exp(appeal).sum()

    user, video = _exposures(config, user_UD @ video_VD.T, popularity, rng)
    session, hurried = _sessions(config, user, rng)
    interest = _interest(config, np.einsum("nd,nd->n", user_UD[user], video_VD[video]))
    flipped = rng.random(len(user)) < config.flip_fraction
    duration = video_duration[video]
    acted = np.where(flipped, 1.0 - interest, interest)
    counterfactual, state, watch = _watch(config, acted, duration, hurried, rng)
    flags = _flags(config, acted, rng)
    explicit: Bools = np.asarray(flags[:, [FLAGS.index(name) for name in EXPLICIT]].any(axis=1))
    return World(
        config=config,
        user=user,
        video=video,
        timestamp_ms=_timestamps(config, user, session, watch, rng),
        session=session,
        hurried=hurried,
        duration_s=duration,
        interest=interest,
        flipped=flipped,
        counterfactual_s=counterfactual,
        state=state,
        watch_time_s=watch,
        flags=flags,
        utility=planted_utility(watch, duration, explicit),
        user_latent=user_UD,
        video_latent=video_VD,
        video_duration_s=video_duration,
        video_popularity=popularity,
        video_author=author,
        video_tag=tag,
        segment=segment,
        age_days=rng.integers(10, 3_000, size=config.users).astype(np.float64),
    )


def _interest(config: SyntheticConfig, affinity: F64) -> F64:
    """ρ = σ(scale * ⟨p_u, q_i⟩ / √D), kept inside (0.01, 0.99) so that w_c stays finite."""
    logit = config.interest_scale * affinity / np.sqrt(config.latent)
    out: F64 = np.clip(1.0 / (1.0 + np.exp(-logit)), 0.01, 0.99)
    return out


def _exposures(
    config: SyntheticConfig, affinity_UV: F64, popularity: F64, rng: np.random.Generator
) -> tuple[I64, I64]:
    """Who was shown what: each user draws videos without replacement (Gumbel top-k), in random order."""
    activity = rng.lognormal(sigma=0.7, size=config.users)
    quota = np.minimum(rng.multinomial(config.exposures, activity / activity.sum()), config.videos)
    while (missing := config.exposures - int(quota.sum())) > 0:  # the busiest users ran out of videos
        room = np.flatnonzero(quota < config.videos)
        quota[rng.choice(room, size=min(missing, len(room)), replace=False)] += 1
    pull_V = np.log(popularity)
    shown = []
    for u, count in enumerate(quota):
        pull = pull_V + config.policy * affinity_UV[u] / np.sqrt(config.latent)
        best = np.argpartition(-(pull + rng.gumbel(size=config.videos)), max(count - 1, 0))[:count]
        shown.append(rng.permutation(best))
    return np.repeat(np.arange(config.users), quota), np.concatenate(shown).astype(np.int64)


def _sessions(config: SyntheticConfig, user: I64, rng: np.random.Generator) -> tuple[I64, Bools]:
    """Number of each row's session, and whether it is a hurried one."""
    first = np.append(True, user[1:] != user[:-1])
    begins = first | (rng.random(len(user)) < 1.0 / config.session_length)
    session = np.cumsum(begins) - 1
    hurried = rng.random(int(session[-1]) + 1) < config.hurried_sessions
    return session.astype(np.int64), hurried[session]


def _watch(
    config: SyntheticConfig, acted: F64, duration: F64, hurried: Bools, rng: np.random.Generator
) -> tuple[F64, I64, F64]:
    """Counterfactual watch time, what happened, and the observed watch time, all `[N]`."""
    rows = len(acted)
    noise = np.exp(config.watch_noise * rng.normal(size=rows))
    counterfactual = np.maximum((config.watch_scale_s / -np.log(acted) - 1.0) * noise, 0.1)
    odds = np.log(config.skip_base / (1 - config.skip_base)) - np.log(acted / (1 - acted))
    skip = rng.random(rows) < 1.0 / (1.0 + np.exp(-odds))
    skip |= hurried & (rng.random(rows) < config.hurried_skip)
    whole = ~skip & (counterfactual >= duration)
    replay = whole & (rng.random(rows) < config.replay * acted)

    watch = np.minimum(counterfactual, duration)
    watch = np.where(skip, np.minimum(rng.exponential(config.skip_s, size=rows), duration), watch)
    loops = np.where(rng.random(rows) < 0.75, 2.0, 3.0) * np.exp(0.02 * rng.normal(size=rows))
    watch = np.where(replay, loops * duration, watch).round(3)
    state = np.select([skip, replay, whole], [SKIP, REPLAY, WHOLE], PART).astype(np.int64)
    return counterfactual, state, watch


def _flags(config: SyntheticConfig, acted: F64, rng: np.random.Generator) -> Bools:
    """`[N, 6]` Bernoulli(σ(a logit ρ - b)), with b such that the mean probability is the rate."""
    logit = np.log(acted / (1 - acted))
    columns = []
    for name in FLAGS:
        slope = -config.explicit_slope if name == "hate" else config.explicit_slope
        low, high = -30.0, 30.0
        for _ in range(60):
            b = (low + high) / 2
            mean = float(np.mean(1.0 / (1.0 + np.exp(b - slope * logit))))
            low, high = (b, high) if mean > config.rates[name] else (low, b)
        columns.append(rng.random(len(acted)) < 1.0 / (1.0 + np.exp(b - slope * logit)))
    return np.stack(columns, axis=1)


def _timestamps(
    config: SyntheticConfig, user: I64, session: I64, watch: F64, rng: np.random.Generator
) -> I64:
    """Sessions start at random moments, in order; inside one, exposures follow each other."""
    start = datetime.fromisoformat(f"{config.start}T00:00:00+00:00").timestamp() * 1000
    span = config.days * 86_400_000
    begins = np.append(True, session[1:] != session[:-1])
    owner = user[begins]
    # A user's sessions get evenly spread slots, jittered, so that none runs into the next.
    number = np.arange(len(owner)) - np.searchsorted(owner, owner)
    slots = np.bincount(owner, minlength=config.users)[owner]
    step = span / slots
    opened = (number + 0.5 * rng.random(len(owner))) * step
    step_ms = (watch + rng.exponential(3.0, size=len(user)) + 0.5) * 1000
    before = np.cumsum(step_ms) - step_ms
    inside = before - before[begins][session]
    # A session as long as its slot is squeezed into the half that the jitter leaves free.
    longest = np.maximum.reduceat(inside, np.flatnonzero(begins))
    squeeze = np.minimum(1.0, 0.45 * step / np.maximum(longest, 1.0))
    out: I64 = np.floor(start + opened[session] + inside * squeeze[session]).astype(np.int64)
    return out


def tables_of(world: World) -> Tables:
    """The world as a reader hands it over. Ids are padded so that they sort as their numbers do."""
    config = world.config
    user_ids = _names("u", config.users)
    video_ids = _names("v", config.videos)
    author_ids, tag_ids = _names("a", config.authors), _names("t", config.tags)
    videos = pl.DataFrame(
        {
            "video_id": video_ids,
            "duration_s": world.video_duration_s,
            "author_id": author_ids[world.video_author],
            "tag": tag_ids[world.video_tag],
        }
    )
    tab = np.where(world.session % 7 == 0, "2", "1")
    log = in_order(
        pl.DataFrame(
            {
                "user_id": user_ids[world.user],
                "video_id": video_ids[world.video],
                "timestamp_ms": world.timestamp_ms,
                "watch_time_s": world.watch_time_s,
                "duration_s": world.duration_s,
                **{name: world.flags[:, f] for f, name in enumerate(FLAGS)},
                "tab": tab,
                "author_id": author_ids[world.video_author[world.video]],
                "tag": tag_ids[world.video_tag[world.video]],
            }
        )
    )
    users = pl.DataFrame(
        {"user_id": user_ids, "age_days": world.age_days, "segment": _names("s", 4)[world.segment]}
    )
    info = Info(
        dataset="synthetic",
        source="training.data.synthetic_world",
        licence="Apache-2.0, as the program that made it",
        citation="none",
        rows=RowCounts(read=len(log), kept=len(log)),
        users=log["user_id"].n_unique(),
        videos=len(videos),
        first_timestamp_ms=int(world.timestamp_ms.min()),
        last_timestamp_ms=int(world.timestamp_ms.max()),
        utc_offset_hours=0.0,
        days=local_days(log["timestamp_ms"], 0.0),
        main_tab="1",
        profile=ProfileSchema(numbers=("age_days",), categories=("segment",)),
        notes=(f"made up: {config.model_dump_json()}",),
    )
    return Tables(log, users, videos, info)


def read_synthetic(source: Path | None, seed: int) -> Tables:
    """The default world as a data set; `source` may name a JSON file with a `SyntheticConfig`.

    Raises:
        BadInput: the file is missing or is no such config.
    """
    if source is None:
        return tables_of(synthetic_world(seed=seed))
    try:
        config = SyntheticConfig.model_validate_json(source.read_bytes())
        return tables_of(synthetic_world(config, seed))
    except (OSError, ValueError) as e:
        raise BadInput(f"{source} is not a config of the synthetic world: {str(e).splitlines()[0]}.") from e


def _names(prefix: str, count: int) -> npt.NDArray[np.object_]:
    width = len(str(count - 1))
    return np.array([f"{prefix}{i:0{width}d}" for i in range(count)], dtype=object)
