"""What the encoder computes without parameters, as plain numbers, for other models."""

from __future__ import annotations

import torch
from torch import Tensor

from models.features import SEQUENCE_ID_COLUMNS
from models.signals import NO_SIGNALS, Signals
from models.video_features import MAX_VALUES, NO_VIDEO_FEATURES, VideoFeatures
from models.vocabulary import PADDING
from training.encoders._feedback import FeedbackEncoder
from training.encoders._inputs import RankerInputs
from training.encoders._statistics import COLUMNS, KEYS
from training.encoders._steps import STEP_COLUMNS
from training.encoders._user_stats import (
    RECENT,
    candidate_match_features,
    step_columns,
    user_stats,
)

# Shape suffixes: B users, L steps, N candidates, F features.

_WINDOWS = ("all", "same tab", "half hour", "day")
_IDS = SEQUENCE_ID_COLUMNS[:KEYS]


def plain_features(encoder: FeedbackEncoder, x: RankerInputs, statistics_BNS: Tensor | None = None) -> Tensor:
    """Return `[B, N, F]` numbers and categories of each candidate, columns as `plain_names`.

    The user's running statistics and newest steps, what was done with the candidate's author and tag, the
    frozen statistics of video, author and tag, the duration, the profile, own features of the video, and the
    ids of tab, video, author, tag and categories, of several values the first, as numbers. The same that the
    encoder reads, from the same code.

    Args:
        encoder: its tables are fitted; its parameters have no part.
        x: the inputs.
        statistics_BNS: what a training row may see of its video's; from the frozen tables when left out.
    """
    if statistics_BNS is None:
        statistics_BNS = encoder.statistics(x.candidate_ids)
    b, n = x.candidate_duration_s.shape
    valid_BL = (x.sequence_ids[..., 0] != PADDING).float()
    steps_BLF = step_columns(
        encoder.feedback(x.sequence_feedback)[..., : len(encoder.feedback.columns)],
        torch.log1p(x.sequence_feedback[..., 1:2]) / 4.0,
        torch.log1p(x.sequence_age_s)[..., None] / 10.0,
        valid_BL,
        torch.zeros_like(valid_BL),
    )
    user_BF = torch.cat(
        [
            user_stats(x, steps_BLF),
            x.profile,
            x.context_ids.float(),
            x.profile_ids.float(),
        ],
        dim=-1,
    )
    match_RM, _ = candidate_match_features(x, steps_BLF)
    return torch.cat(
        [
            user_BF[:, None].expand(b, n, user_BF.shape[-1]),
            match_RM.reshape(b, n, match_RM.shape[1]),
            statistics_BNS,
            x.candidate_duration_s[..., None],
            x.candidate_ids.float(),
            x.candidate_numbers,
            x.candidate_categories[..., ::MAX_VALUES].float(),
        ],
        dim=-1,
    )


def plain_names(
    numbers: tuple[str, ...],
    categories: tuple[str, ...],
    signals: Signals = NO_SIGNALS,
    video_features: VideoFeatures = NO_VIDEO_FEATURES,
) -> tuple[list[str], list[int]]:
    """Return the columns of `plain_features`, and which of them are categories.

    Args:
        numbers, categories: names of the profile's.
        signals: own signals of a step.
        video_features: own features of a candidate.
    """
    step = (*STEP_COLUMNS, *signals.names)
    done = [*step, "count"]
    named = [
        *(f"{name}, {window}" for window in _WINDOWS for name in done),
        *(
            f"{name}, step {RECENT - i} from the end"
            for i in range(RECENT)
            for name in (*step, "log_duration", "recency", "is there")
        ),
        *numbers,
        "tab",
        *categories,
        *(f"{name}, same {key}" for key in ("author", "tag") for name in done),
        *(f"{name} of the {key.removesuffix('_id')}" for key in _IDS for name in COLUMNS),
        "duration",
        *_IDS,
        *(f"number {n} of the video" for n in range(video_features.width)),
        *video_features.fields,
    ]
    chosen = {"tab", *categories, *_IDS, *video_features.fields}
    return named, [i for i, name in enumerate(named) if name in chosen]
