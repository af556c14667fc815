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
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from models.arrays import F64, I64, Bools
from models.errors import BadInput
from models.schema import EXPLICIT, FLAGS
from training.data._dataset import Dataset
from training.data._synthetic_config import SyntheticConfig
from training.data._synthetic_steps import (
    draw_exposures,
    draw_flags,
    draw_sessions,
    draw_timestamps,
    draw_watch,
    interest_of,
)
from training.data._tables import Info, ProfileSchema, RowCounts, Tables, in_order, local_days

# Shape suffixes: N exposures, U users, V videos, D latent dimensions, F flags.


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
        return interest_of(self.config, self.user_latent @ self.video_latent.T)

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

    user, video = draw_exposures(config, user_UD @ video_VD.T, popularity, rng)
    session, hurried = draw_sessions(config, user, rng)
    interest = interest_of(config, np.einsum("nd,nd->n", user_UD[user], video_VD[video]))
    flipped = rng.random(len(user)) < config.flip_fraction
    duration = video_duration[video]
    acted = np.where(flipped, 1.0 - interest, interest)
    counterfactual, state, watch = draw_watch(config, acted, duration, hurried, rng)
    flags = draw_flags(config, acted, rng)
    explicit: Bools = np.asarray(flags[:, [FLAGS.index(name) for name in EXPLICIT]].any(axis=1))
    return World(
        config=config,
        user=user,
        video=video,
        timestamp_ms=draw_timestamps(config, user, session, watch, rng),
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
