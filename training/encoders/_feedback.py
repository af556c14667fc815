"""The encoder the served ranker is built on: candidates meet what the user did with earlier videos."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from models.features import FEEDBACK_COLUMNS
from models.vocabulary import PADDING, UNKNOWN
from training.config import Config
from training.data import Interactions
from training.data._interactions import F32, F64, I64
from training.encoders._inputs import RankerInputs
from training.encoders._statistics import VideoStatistics

# Shape suffixes: B users, L sequence steps, N candidates, H heads, E token width, D state width.

RECENT = 3
"""So many of the newest exposures are also read one by one."""
STEP_COLUMNS = 5 + len(FEEDBACK_COLUMNS) - 2
"""long view, skip, log watch time, watch ratio, complete, then the flags: what was done at a step."""


class FeedbackEncoderConfig(Config):
    """Knobs of `FeedbackEncoder`. No source gives them: chosen on the early-stop split."""

    width: PositiveInt = 64
    """Width D of the state that the heads read."""
    token: PositiveInt = 48
    """Width E of a token of the sequence, and of a candidate's query."""
    heads: PositiveInt = 4
    """Attention heads; divides `token`."""
    video_embedding: PositiveInt = 8
    """Width of a video's embedding; authors and tags take the same."""
    hidden: PositiveInt = 128
    """Width of the layer before the state."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """On the layer before the state, while fitting."""
    id_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of ids replaced by the unknown row while fitting, so that the unknown row is trained."""


class FeedbackEncoder(nn.Module):
    """Sequence, candidate, profile and context -> state `[B, N, D]`.

    * A token of the sequence carries the video *and what the user did*: watch time, ratio, long view, skip,
      flags, how long ago, and in which tab.
    * Each candidate attends over the tokens (softmax over the steps and one learned null token, so an
      empty sequence is a defined answer), and meets its own author's and tag's exposures in it.
    * Running statistics of the user (all, same tab, last half hour, last three) are computed in here from
      the sequence, so that they are the same offline and online.
    * No batch statistics: the state of a candidate does not depend on what else is in the call. No user id:
      a new or forgotten user is no special case.

    After "Learning and Optimization of Implicit Negative Feedback…", arXiv 2308.13249 (feedback-aware
    encoding); the abstract gives no architecture, so the layers are ours.

    Args:
        sizes: rows of the vocabulary for video, author, tag and tab.
        numbers: P numeric profile features.
        categories: rows of the vocabulary for each of the Q categorical ones.
        config: the knobs.
    """

    typical_duration_s: Tensor
    number_mean: Tensor
    number_std: Tensor
    category_offset: Tensor

    def __init__(
        self,
        sizes: tuple[int, int, int, int],
        numbers: int,
        categories: tuple[int, ...],
        config: FeedbackEncoderConfig,
    ) -> None:
        super().__init__()
        video, author, tag, tab = sizes
        e, v, h = config.token, config.video_embedding, config.hidden
        self.config = config
        self.video = nn.Embedding(video, v, padding_idx=PADDING)
        self.author = nn.Embedding(author, v, padding_idx=PADDING)
        self.tag = nn.Embedding(tag, v, padding_idx=PADDING)
        self.tab = nn.Embedding(tab, 4, padding_idx=PADDING)
        # One table for all categories, each at an offset of its own: one lookup instead of Q.
        self.category = nn.Embedding(max(sum(categories), 1), 3)
        offsets = torch.tensor([0, *categories]).cumsum(0)[:-1]
        self.register_buffer("category_offset", offsets, persistent=False)
        for embedding in (self.video, self.author, self.tag, self.tab, self.category):
            nn.init.normal_(embedding.weight, std=0.05)
        self.statistics = VideoStatistics((video, author, tag))
        self.register_buffer("typical_duration_s", torch.tensor(30.0))
        self.register_buffer("number_mean", torch.zeros(numbers))
        self.register_buffer("number_std", torch.ones(numbers))
        # token: ids, what was done, log duration, log age
        self.step = nn.Linear(3 * v + 4 + STEP_COLUMNS + 2, e)
        self.query = nn.Linear(3 * v + 2 + self.statistics.width, e)
        self.key = nn.Linear(e, e)
        self.value = nn.Linear(e, e)
        self.null = nn.Parameter(torch.zeros(2, e))
        user = 4 * (STEP_COLUMNS + 1) + RECENT * (STEP_COLUMNS + 3) + 2
        self.user = nn.Linear(user + 4 + 2 * numbers + 3 * len(categories), h)
        matched = 2 * (STEP_COLUMNS + 1)
        self.candidate = nn.Linear(3 * e + matched + self.statistics.width + 2, h, bias=False)
        self.norm = nn.LayerNorm(h)
        self.dropout = nn.Dropout(config.dropout)
        self.state = nn.Linear(h, config.width)

    def fit_tables(self, log: Interactions, rows: I64, censored: tuple[F64, F64, F64] | None = None) -> F32:
        """Freeze every table on the training rows.

        Returns:
            What each of `rows` may see of the video statistics while fitting, see `VideoStatistics.fit`.
        """
        self.typical_duration_s.fill_(float(torch.from_numpy(log.duration_s[rows]).median()))
        users = torch.from_numpy(log.profile[np.unique(log.user[rows])])
        squashed = _squash(users)
        self.number_mean.copy_(squashed.nanmean(dim=0).nan_to_num())
        spread = (squashed - self.number_mean).square().nanmean(dim=0).sqrt().nan_to_num(1.0)
        self.number_std.copy_(torch.where(spread > 1e-3, spread, torch.ones_like(spread)))
        return self.statistics.fit(log, rows, censored)

    def forward(self, x: RankerInputs, statistics_BNS: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            x: see `RankerInputs`.
            statistics_BNS: what a training row may see of its video's statistics, `[B, N, 15]`; from the
                frozen tables when left out.

        Returns:
            The state `[B, N, D]`, and the candidates' durations in seconds with unknown ones filled by the
            typical one, `[B, N]`.
        """
        duration_BN = torch.where(
            torch.isnan(x.candidate_duration_s), self.typical_duration_s, x.candidate_duration_s
        ).clamp(min=0.1)
        sequence_ids, candidate_ids = self._drop(x.sequence_ids), self._drop(x.candidate_ids)
        if statistics_BNS is None:
            statistics_BNS = self.statistics(x.candidate_ids)
        valid_BL = (x.sequence_ids[..., 0] != PADDING).to(duration_BN.dtype)
        done_BLF = _done(x.sequence_feedback) * valid_BL[..., None]
        log_age_BL = torch.log1p(x.sequence_age_s) / 10.0
        length_BN2 = torch.stack([torch.log(duration_BN) / 4.0, (duration_BN <= 18.0).float()], dim=-1)

        token_BLE = self.step(
            torch.cat(
                [
                    self._ids(sequence_ids),
                    self.tab(sequence_ids[..., 3]),
                    done_BLF,
                    torch.log1p(x.sequence_feedback[..., 1:2]) / 4.0,
                    log_age_BL[..., None],
                ],
                dim=-1,
            )
        )
        query_BNE = self.query(torch.cat([self._ids(candidate_ids), length_BN2, statistics_BNS], dim=-1))
        attended_BNE = self._attend(query_BNE, F.gelu(token_BLE), valid_BL)
        user_BH = self.user(
            torch.cat(
                [
                    self._habits(x, done_BLF, valid_BL, log_age_BL),
                    self.tab(x.context_ids[..., 0]),
                    *self._profile(x),
                ],
                dim=-1,
            )
        )
        candidate_BNH = self.candidate(
            torch.cat(
                [
                    query_BNE,
                    attended_BNE,
                    query_BNE * attended_BNE,
                    self._matched(x, done_BLF, valid_BL),
                    statistics_BNS,
                    length_BN2,
                ],
                dim=-1,
            )
        )
        hidden_BNH = F.gelu(self.norm(user_BH[:, None, :] + candidate_BNH))
        return F.gelu(self.state(self.dropout(hidden_BNH))), duration_BN

    def _ids(self, ids: Tensor) -> Tensor:
        """Embeddings of (video, author, tag), concatenated."""
        return torch.cat([self.video(ids[..., 0]), self.author(ids[..., 1]), self.tag(ids[..., 2])], dim=-1)

    def _drop(self, ids: Tensor) -> Tensor:
        """While fitting, some ids become the unknown one."""
        if not self.training or self.config.id_dropout == 0:
            return ids
        drop = (torch.rand(ids.shape) < self.config.id_dropout) & (ids != PADDING)
        return torch.where(drop, UNKNOWN, ids)

    def _attend(self, query_BNE: Tensor, token_BLE: Tensor, valid_BL: Tensor) -> Tensor:
        """Scaled dot-product attention of candidates over steps and the null token -> `[B, N, E]`."""
        b, n, e = query_BNE.shape
        h = self.config.heads
        null_B1E = self.null[:, None, None, :].expand(2, b, 1, e)
        key_BLE = torch.cat([null_B1E[0], self.key(token_BLE)], dim=1)
        value_BLE = torch.cat([null_B1E[1], self.value(token_BLE)], dim=1)
        mask_BL = torch.cat([valid_BL.new_ones(b, 1), valid_BL], dim=1)
        query_BHNE = query_BNE.reshape(b, n, h, e // h).transpose(1, 2)
        key_BHEL = key_BLE.reshape(b, -1, h, e // h).permute(0, 2, 3, 1)
        value_BHLE = value_BLE.reshape(b, -1, h, e // h).transpose(1, 2)
        logit_BHNL = query_BHNE @ key_BHEL / math.sqrt(e // h)
        weight_BHNL = torch.softmax(logit_BHNL + (mask_BL[:, None, None, :] - 1.0) * 1e4, dim=-1)
        return (weight_BHNL @ value_BHLE).transpose(1, 2).reshape(b, n, e)

    def _habits(self, x: RankerInputs, done_BLF: Tensor, valid_BL: Tensor, log_age_BL: Tensor) -> Tensor:
        """The user's running statistics: means over all steps, over those of the same tab, of the last half
        hour and of the last day, each with its log count; then the newest steps one by one."""
        same_tab = valid_BL * (x.sequence_ids[..., 3] == x.context_ids).float()
        half_hour = same_tab * (x.sequence_age_s < 1800.0).float()
        day = same_tab * (x.sequence_age_s < 86_400.0).float()
        means = _mean(done_BLF, torch.stack([valid_BL, same_tab, half_hour, day], dim=1))
        newest = torch.cat(
            [
                done_BLF,
                torch.log1p(x.sequence_feedback[..., 1:2]) / 4.0 * valid_BL[..., None],
                (1.0 - log_age_BL[..., None]) * valid_BL[..., None],
                valid_BL[..., None],
            ],
            dim=-1,
        )
        newest = F.pad(newest, (0, 0, RECENT, 0))[:, -RECENT:]
        gap = F.pad((1.0 - log_age_BL) * valid_BL, (1, 0))
        return torch.cat(
            [means.flatten(1), newest.flatten(1), gap.amax(dim=1, keepdim=True), gap[:, -1:]], dim=-1
        )

    def _matched(self, x: RankerInputs, done_BLF: Tensor, valid_BL: Tensor) -> Tensor:
        """What the user did with the candidate's author, and with its tag -> `[B, N, 2·(F+1)]`."""
        wanted, seen = x.candidate_ids[..., 1:3, None], x.sequence_ids[:, None, :, 1:3].transpose(2, 3)
        same_BN2L = ((wanted == seen) & (wanted != UNKNOWN)).float() * valid_BL[:, None, None, :]
        return _mean(done_BLF[:, None], same_BN2L).flatten(2)

    def _profile(self, x: RankerInputs) -> list[Tensor]:
        """Standardised numbers, which of them are missing, and the categories' embeddings.

        While fitting, some profiles are unknown, so that a user without one is a trained case.
        """
        missing = torch.isnan(x.profile)
        if self.training and self.config.id_dropout > 0:
            missing = missing | (torch.rand(len(x.profile), 1) < self.config.id_dropout)
        number = (_squash(x.profile) - self.number_mean) / self.number_std
        number = torch.where(missing, torch.zeros_like(number), number).clamp(-4.0, 4.0)
        return [
            number,
            missing.to(number.dtype),
            self.category(x.profile_ids + self.category_offset).flatten(1),
        ]


def _squash(number: Tensor) -> Tensor:
    """sign(x)·log(1 + |x|): counts such as followers span six decades."""
    return torch.sign(number) * torch.log1p(torch.abs(number))


def _done(feedback: Tensor) -> Tensor:
    """Raw feedback `[…, 8]` -> what was done `[…, 11]`, columns as in `STEP_COLUMNS`."""
    w, d = feedback[..., 0], feedback[..., 1].clamp(min=0.1)
    columns = [
        (w >= d.clamp(max=18.0)).float(),
        (w < d.clamp(max=3.0)).float(),
        torch.log1p(w) / 4.0,
        (w / d).clamp(max=3.0),
        (w >= d).float(),
    ]
    return torch.cat([torch.stack(columns, dim=-1), feedback[..., 2:]], dim=-1)


def _mean(done_BLF: Tensor, weight_BNL: Tensor) -> Tensor:
    """Weighted mean of the steps, shrunk towards 0 by one step, and the log of the count: `[B, N, F+1]`.

    The count is a matrix product with ones, not a sum: ONNX Runtime's ReduceSum loses the axis when the
    sequence is empty.
    """
    total = weight_BNL @ torch.cat([done_BLF, torch.ones_like(done_BLF[..., :1])], dim=-1)
    count = total[..., -1:]
    return torch.cat([total[..., :-1] / (count + 1.0), torch.log1p(count) / 4.0], dim=-1)
