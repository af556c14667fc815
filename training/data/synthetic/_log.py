"""A simulated log with known interest, counterfactual watch time and platform utility.

It serves to test what the methods claim. The design is ours:

* interest `ρ_ui` does not depend on the duration, but watch time and exposure do: duration is a confounder,
  the backdoor path that D2Q and DML close;
* counterfactual watch time `w_c = c / (-ln ρ) - 1`, so that CWM is well specified;
* observed watch time is a skip, a part, the whole, or several times the whole: 3-4 peaks of the ratio;
* in a hurried session users skip regardless of interest;
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
from training.data._tables import Info, LogExtent, ProfileSchema, RowCounts, Tables, in_order
from training.data.synthetic._config import SyntheticConfig
from training.data.synthetic._steps import (
    draw_exposures,
    draw_sessions,
    draw_timestamps,
)
from training.simulator import draw_flags, draw_watch, flag_thresholds, interest_of

# Shape suffixes: N exposures, U users, V videos, D latent dimensions, F flags.


@dataclass(frozen=True)
class SyntheticLog:
    """A simulated log with its ground truth. Row n is row n of `dataset().interactions(...)`."""

    config: SyntheticConfig
    user: I64
    """`[N]` ascending. `Interactions.user` numbers only the users who have rows."""
    video: I64
    """`[N]`"""
    timestamp_ms: I64
    """`[N]` strictly increasing within a user."""
    session: I64
    """`[N]` index of the session, over all users."""
    hurried: Bools
    """`[N]` whether skips of the session are independent of interest."""
    duration_s: F64
    """`[N]`"""
    interest: F64
    """`[N]` ρ_ui in (0, 1), also where `flipped`."""
    flipped: Bools
    """`[N]` rows whose behaviour follows 1 - ρ."""
    counterfactual_s: F64
    """`[N]` watch time of an endless video."""
    state: I64
    """`[N]` SKIP, PART, COMPLETE or REPLAY."""
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
    """`[U]` one of four user segments: a profile feature that depends on interest."""
    age_days: F64
    """`[U]` a profile feature that is pure noise."""

    def __len__(self) -> int:
        return len(self.user)

    def all_interest(self) -> F64:
        """Return ρ of every pair, `[U, V]`."""
        return interest_of(self.config, self.user_latent @ self.video_latent.T / np.sqrt(self.config.latent))

    def dataset(self) -> Dataset:
        """Return the log as `load` would, without a folder."""
        return Dataset(tables_from(self))


def planted_utility(watch_time_s: F64, duration_s: F64, explicit: Bools) -> F64:
    """Compute the true utility of an exposure for the platform.

        u(w, d, e) = 0.45 (1 - exp(-w / 20 s)) + 0.25 min(w / d, 1) + 0.3 e        in [0, 1]

    No single rule (watch time, ratio, completion, a like) sorts exposures in its order.

    Args:
        watch_time_s: `[N]`.
        duration_s: `[N]`, > 0.
        explicit: `[N]` any of like, follow, comment, forward.
    """
    attention = 1.0 - np.exp(-watch_time_s / 20.0)
    out: F64 = 0.45 * attention + 0.25 * np.minimum(watch_time_s / duration_s, 1.0) + 0.3 * explicit
    return out


def simulate_log(config: SyntheticConfig | None = None, seed: int = 0) -> SyntheticLog:
    """Simulate a log. The same config and seed give the same log.

    Raises:
        ValueError: more exposures than half of all pairs.
    """
    config = config or SyntheticConfig()
    if config.exposures > config.users * config.videos / 2:
        raise ValueError("`exposures` must be at most users * videos / 2: a video is shown once to a user")
    rng = np.random.default_rng(seed)
    segment_KD = rng.normal(size=(4, config.latent))
    segment = rng.integers(4, size=config.users)
    user_UD = 0.7 * segment_KD[segment] + rng.normal(size=(config.users, config.latent)) * 0.7
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
    affinity = np.einsum("nd,nd->n", user_UD[user], video_VD[video]) / np.sqrt(config.latent)
    interest = interest_of(config, affinity)
    flipped = rng.random(len(user)) < config.flip_fraction
    duration = video_duration[video]
    behaviour = np.where(flipped, 1.0 - interest, interest)
    counterfactual, state, watch = draw_watch(config, behaviour, duration, hurried, rng)
    flags = draw_flags(config, behaviour, flag_thresholds(config, behaviour), rng)
    explicit: Bools = np.asarray(flags[:, [FLAGS.index(name) for name in EXPLICIT]].any(axis=1))
    return SyntheticLog(
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


def tables_from(simulated: SyntheticLog) -> Tables:
    """Return the tables as a reader does. Ids are zero-padded, so that they sort by number."""
    config = simulated.config
    user_ids = _names("u", config.users)
    video_ids = _names("v", config.videos)
    author_ids, tag_ids = _names("a", config.authors), _names("t", config.tags)
    videos = pl.DataFrame(
        {
            "video_id": video_ids,
            "duration_s": simulated.video_duration_s,
            "author_id": author_ids[simulated.video_author],
            "tag": tag_ids[simulated.video_tag],
        }
    )
    tab = np.where(simulated.session % 7 == 0, "2", "1")
    log = in_order(
        pl.DataFrame(
            {
                "user_id": user_ids[simulated.user],
                "video_id": video_ids[simulated.video],
                "timestamp_ms": simulated.timestamp_ms,
                "watch_time_s": simulated.watch_time_s,
                "duration_s": simulated.duration_s,
                **{name: simulated.flags[:, f] for f, name in enumerate(FLAGS)},
                "tab": tab,
                "author_id": author_ids[simulated.video_author[simulated.video]],
                "tag": tag_ids[simulated.video_tag[simulated.video]],
            }
        )
    )
    users = pl.DataFrame(
        {"user_id": user_ids, "age_days": simulated.age_days, "segment": _names("s", 4)[simulated.segment]}
    )
    extent = LogExtent.from_log(log.lazy(), 0.0).model_copy(update={"videos": len(videos)})
    info = Info(
        dataset="synthetic",
        source="training.data.simulate_log",
        licence="Apache-2.0, as the program that made it",
        citation="none",
        rows=RowCounts(read=len(log), kept=len(log)),
        **extent.as_info(),
        utc_offset_hours=0.0,
        main_tab="1",
        profile=ProfileSchema(numbers=("age_days",), categories=("segment",)),
        notes=(f"simulated: {config.model_dump_json()}",),
    )
    return Tables(log, users, videos, info)


def read_synthetic(source: Path | None, seed: int) -> Tables:
    """Simulate the default log, or one with the `SyntheticConfig` in the JSON file `source`.

    Raises:
        BadInput: the file is missing or is not a `SyntheticConfig`.
    """
    if source is None:
        return tables_from(simulate_log(seed=seed))
    try:
        config = SyntheticConfig.model_validate_json(source.read_bytes())
        return tables_from(simulate_log(config, seed))
    except (OSError, ValueError) as e:
        raise BadInput(f"{source} is not a config of the synthetic log: {str(e).splitlines()[0]}.") from e


def _names(prefix: str, count: int) -> npt.NDArray[np.object_]:
    width = len(str(count - 1))
    return np.array([f"{prefix}{i:0{width}d}" for i in range(count)], dtype=object)
