"""The encoder the served ranker is built on: candidates meet what the user did with earlier videos."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.functional import embedding

from models.arrays import F32, F64, I64
from models.features import FEEDBACK_COLUMNS, HISTORY_COLUMNS
from models.signals import NO_SIGNALS, Signals
from models.video_features import NO_VIDEO_FEATURES, VideoFeatures
from models.vocabulary import FIRST, PADDING, UNKNOWN
from training.data import Interactions
from training.encoders._attention import CandidateAttention
from training.encoders._co_visitation import WIDTH as CO_VISITATION_WIDTH
from training.encoders._co_visitation import CoVisitation
from training.encoders._feedback_config import FeedbackEncoderConfig
from training.encoders._gate import SkipGate, skip_context
from training.encoders._inputs import RankerInputs, inputs_for
from training.encoders._standardised import Standardised
from training.encoders._statistics import KEYS, VideoStatistics
from training.encoders._steps import StepFeedback, gap_s, liked_and_skipped
from training.encoders._tables import CATEGORY_WIDTH, TAB_WIDTH, EmbeddingTables
from training.encoders._user_stats import (
    candidate_match_features,
    match_columns,
    step_columns,
    user_columns,
    user_stats,
)
from training.encoders._video_features import VideoFeatureColumns
from training.strata import DurationGroups

# Shape suffixes: B users, L sequence steps, N candidates, R = B·N, S interests, E token width, H hidden
# width, D state width, X columns of a candidate, J history entries and steps.

INTERESTS = {"one": 1, "apart": 2, "both": 3}
"""S, the vectors that `interests` leaves a candidate."""

_HATE = FEEDBACK_COLUMNS.index("hate")

SCALED_ROWS = 20_000
"""Training rows that the spread of a user's statistics is read from."""
SCALED_STEPS = 50
"""Their longest sequence."""


class FeedbackEncoder(nn.Module):
    """Sequence, candidate, profile and context -> state `[B, N, D]`.

    * A token of the sequence carries the video *and what the user did* (`StepFeedback`), how long ago, and in
      which tab; `tokens` decides in how much detail.
    * What came before the sequence are tokens of less: video, long view, like, and how far back.
    * Each candidate attends over the tokens: all of them, or the liked and the skipped apart (`interests`),
      where a skip may count by its context (`gate`). It also meets its own author's and tag's steps.
    * Videos have frozen vectors of whom they were shown to (`CoVisitation`) beside learned ones.
    * Of a step that was hated nothing is read but its author and tag, see `rows`: a second watched before
      a hate is no interest. A history does not know of hates.
    * Running statistics of the user (all, same tab, last half hour, last day, last three) are computed in
      here from the sequence, so that they are the same offline and online.
    * No batch statistics: the state of a candidate does not depend on what else is in the call. No user id:
      a new or forgotten user is no special case.

    After "Learning and Optimization of Implicit Negative Feedback…", arXiv 2308.13249 (feedback-aware
    encoding); the abstract gives no architecture, so the layers are ours.

    Args:
        sizes: rows of the vocabulary for video, author, tag and tab.
        numbers: P numeric profile features.
        categories: rows of the vocabulary for each of the Q categorical ones.
        config: hyperparameters.
        signals: own signals of a step.
        video_features: own features of candidates; a step has none.
        values: rows of the vocabulary for each category of them.
    """

    typical_duration_s: Tensor
    number_mean: Tensor
    number_std: Tensor
    author_tag: Tensor

    def __init__(
        self,
        sizes: tuple[int, int, int, int],
        numbers: int,
        categories: tuple[int, ...],
        config: FeedbackEncoderConfig,
        signals: Signals = NO_SIGNALS,
        video_features: VideoFeatures = NO_VIDEO_FEATURES,
        values: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        e, v, h = config.token, config.video_embedding, config.hidden
        full = config.tokens == "full"
        self.config = config
        self.signals = signals
        self.video_features = video_features
        self.own = VideoFeatureColumns(video_features, values) if video_features.names else None
        self.tables = EmbeddingTables(sizes, categories, v)
        self.co_visitation = CoVisitation(sizes[0])
        self.register_buffer("author_tag", torch.full((sizes[0], 2), UNKNOWN))
        self.register_buffer("typical_duration_s", torch.tensor(30.0))
        self.register_buffer("number_mean", torch.zeros(numbers))
        self.register_buffer("number_std", torch.ones(numbers))
        self.feedback = StepFeedback(full=full, signals=signals)
        done = len(self.feedback.columns)
        self.groups = DurationGroups(config.duration_groups) if full else None
        self.group = nn.Embedding(config.duration_groups, TAB_WIDTH) if full else None
        group = TAB_WIDTH if full else 0
        # a step: ids, co-visitation, tab, what was done, log duration, log age; full: group, log gap
        step = KEYS * v + CO_VISITATION_WIDTH + TAB_WIDTH + self.feedback.width + 2
        self.step = nn.Linear(step + (group + 1 if full else 0), e)
        # an entry of the history: author, tag, co-visitation, flags, log position
        entry = (KEYS - 1) * v + CO_VISITATION_WIDTH + len(HISTORY_COLUMNS) + 1
        self.entry = nn.Linear(entry, e) if config.history else None
        interests = INTERESTS[config.interests]
        self.attention = CandidateAttention(e, config.heads, interests)
        self.user_scale = Standardised(user_columns(done))
        profile = 2 * numbers + CATEGORY_WIDTH * len(categories)
        self.user = nn.Linear(user_columns(done) + TAB_WIDTH + profile, h)
        # a candidate: ids with their statistics, co-visitation, log duration, whether short; full: group; own
        known = KEYS * v + self.statistics.width + CO_VISITATION_WIDTH + 2 + group
        known += 0 if self.own is None else self.own.width
        self.query = nn.Linear(known, e)
        self.candidate = nn.Linear(known, h, bias=False)
        self.match_scale = Standardised(match_columns(done))
        self.met = nn.Linear(2 * interests * e + match_columns(done), h, bias=False)
        self.norm = nn.LayerNorm(h)
        self.dropout = nn.Dropout(config.dropout)
        self.state = nn.Linear(h, config.width)
        self.gate = SkipGate(TAB_WIDTH) if config.gate else None

    @property
    def statistics(self) -> VideoStatistics:
        """How videos, authors and tags performed in the training rows."""
        return self.tables.statistics

    @property
    def reads_history(self) -> bool:
        """Whether `history_ids` and `history_feedback` change the state: if not, an exported graph does not
        take them."""
        return self.entry is not None

    def fit_tables(self, log: Interactions, rows: I64, censored: tuple[F64, F64, F64] | None = None) -> F32:
        """Freeze every table on the training rows.

        Returns:
            What each of `rows` may see of the video statistics while fitting, see `VideoStatistics.fit`.
        """
        if self.groups is not None:
            self.groups.fit(log.duration_s[rows])
        self.typical_duration_s.fill_(float(torch.from_numpy(log.duration_s[rows]).median()))
        users = torch.from_numpy(log.profile[np.unique(log.user[rows])])
        squashed = _squash(users)
        self.number_mean.copy_(squashed.nanmean(dim=0).nan_to_num())
        spread = (squashed - self.number_mean).square().nanmean(dim=0).sqrt().nan_to_num(1.0)
        self.number_std.copy_(torch.where(spread > 1e-3, spread, torch.ones_like(spread)))
        known = log.ids[rows]
        self.author_tag[known[:, 0]] = torch.from_numpy(known[:, 1:KEYS])
        self.author_tag[:FIRST] = UNKNOWN
        if self.own is not None and (features := log.video_features) is not None:
            self.own.fit(features.numbers[np.unique(features.video[rows])])
        self.co_visitation.fit(log, rows)
        self._fit_scales(log, rows)
        return self.statistics.fit(log, rows, censored)

    @torch.no_grad()
    def _fit_scales(self, log: Interactions, rows: I64) -> None:
        """Scale what is computed from the sequence by its spread over some of the rows."""
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), SCALED_ROWS)).astype(np.int64)]
        x = inputs_for(log, some, SCALED_STEPS)
        _, steps_BLF = self._steps(x)
        self.user_scale.fit(user_stats(x, steps_BLF))
        self.match_scale.fit(candidate_match_features(x, steps_BLF)[0])

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
        state_RD, duration_BN, _ = self.rows(x, statistics_BNS)
        return state_RD.reshape(*duration_BN.shape, self.config.width), duration_BN

    def rows(self, x: RankerInputs, statistics_BNS: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Encode, with the candidates of all users one under the other.

        Returns:
            The state `[B·N, D]`; the durations `[B, N]`; and how much was hated of each candidate's author,
            of its tag, and at all, `[B·N, 3]`, ≥ 0. The state knows nothing of that: whatever a hate does to
            a candidate is for the ranker to decide.

        The served graph is made of few operators, since each costs about a microsecond whatever it does: rows
        instead of batches, so that a matrix with its bias is one; wide columns instead of many narrow ones.
        """
        token_columns, steps_BLF = self._steps(x)
        valid_BL = steps_BLF[..., -2]
        token_BJE, valid_BJ = self._tokens(x, token_columns, valid_BL)
        tab_BT = self.tables.tab(x.context_ids[..., 0])
        stats_BU = self.user_scale(user_stats(x, steps_BLF))
        user_BH = self.user(torch.cat([stats_BU, tab_BT, *self._profile(x)], dim=-1))
        known_RX, duration_BN = self._candidates(x, statistics_BNS)
        # Query and the way past it are one matrix on the row.
        weight = torch.cat([self.query.weight, self.candidate.weight])
        bias = F.pad(self.query.bias, (0, self.config.hidden))
        query_RE, direct_RH = torch.split(
            F.linear(known_RX, weight, bias), [self.config.token, self.config.hidden], dim=1
        )
        share_BJS = self._interest_shares(x, steps_BLF, valid_BL)
        query_BNE = query_RE.reshape(*duration_BN.shape, self.config.token)
        interest_RSE = self.attention(query_BNE, token_BJE, share_BJS, valid_BJ).flatten(0, 1)
        match_RM, dislike_R3 = candidate_match_features(x, steps_BLF)
        met_RM = [
            interest_RSE.flatten(1),
            (query_RE[:, None] * interest_RSE).flatten(1),
            self.match_scale(match_RM),
        ]
        candidate_RH = torch.addmm(direct_RH, torch.cat(met_RM, dim=1), self.met.weight.T)
        candidate_BNH = candidate_RH.reshape(*duration_BN.shape, self.config.hidden)
        hidden_BNH = self.norm(user_BH[:, None] + candidate_BNH)
        state_RD = self.state(self.dropout(F.gelu(hidden_BNH.flatten(0, 1))))
        return F.gelu(state_RD), duration_BN, dislike_R3

    def _steps(self, x: RankerInputs) -> tuple[list[Tensor], Tensor]:
        """The steps of the sequence: the columns of their tokens besides ids, and those that statistics are
        made from, see `step_columns`."""
        known_BL = (x.sequence_ids[..., 0] != PADDING).to(x.sequence_age_s.dtype)
        hated_BL = known_BL * x.sequence_feedback[..., _HATE] * float(self.config.feedback)
        valid_BL = known_BL - hated_BL
        feedback_BLF = self.feedback(x.sequence_feedback) * valid_BL[..., None]
        if not self.config.feedback:
            feedback_BLF = torch.zeros_like(feedback_BLF)
        log_duration_BL1 = torch.log1p(x.sequence_feedback[..., 1:2]) / 4.0
        log_age_BL1 = torch.log1p(x.sequence_age_s)[..., None] / 10.0
        outcome_BLF = feedback_BLF[..., : len(self.feedback.columns)]
        return [feedback_BLF, log_duration_BL1, log_age_BL1], step_columns(
            outcome_BLF, log_duration_BL1, log_age_BL1, valid_BL, hated_BL
        )

    def _tokens(self, x: RankerInputs, columns: list[Tensor], valid_BL: Tensor) -> tuple[Tensor, Tensor]:
        """What candidates attend over, `[B, J, E]`: history, then the steps; and which are no padding."""
        ids = self._drop(x.sequence_ids)
        token = [
            self.tables.embed(ids[..., :KEYS]).flatten(2),
            self.co_visitation(x.sequence_ids[..., 0]),
            self.tables.tab(ids[..., KEYS]),
            *columns,
        ]
        if self.groups is not None and self.group is not None:
            token += [
                self.group(self.groups(x.sequence_feedback[..., 1])),
                torch.log1p(gap_s(x.sequence_age_s, valid_BL))[..., None] / 10.0,
            ]
        step_BLE = self._layer(self.step, torch.cat(token, dim=-1))
        if self.entry is None:
            return step_BLE, valid_BL
        valid_BH = (x.history_ids != PADDING).to(valid_BL.dtype)
        back_H = torch.arange(x.history_ids.shape[1], 0, -1)
        log_back_BH = (torch.log1p(back_H) / 4.0).expand_as(valid_BH)
        flags_BH2 = x.history_feedback if self.config.feedback else torch.zeros_like(x.history_feedback)
        entry = [embedding(x.history_ids, self._videos()), flags_BH2, log_back_BH[..., None]]
        entry_BHE = self._layer(self.entry, torch.cat(entry, dim=-1))
        return torch.cat([entry_BHE, step_BLE], dim=1), torch.cat([valid_BH, valid_BL], dim=1)

    def _videos(self) -> Tensor:
        """What is known of every video but itself, a row of the vocabulary each: one lookup for all of it."""
        return torch.cat(
            [
                self.tables.author(self.author_tag[:, 0]),
                self.tables.tag(self.author_tag[:, 1]),
                self.co_visitation.vector,
            ],
            dim=1,
        )

    @staticmethod
    def _layer(layer: nn.Linear, x_BLX: Tensor) -> Tensor:
        """`[B, L, X]` -> `[B, L, E]`, as rows: a matrix with its bias is one operator."""
        rows: Tensor = F.gelu(layer(x_BLX.flatten(0, 1)))
        return rows.reshape(*x_BLX.shape[:2], layer.out_features)

    def _candidates(self, x: RankerInputs, statistics_BNS: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is known of each candidate by itself, `[B·N, X]`, and its duration in seconds, `[B, N]`.

        Columns: embedding and statistics of the video, of the author, of the tag; the video's co-visitation;
        of the duration its logarithm, whether it is short, and with full tokens its group; its own features.
        """
        duration_BN = torch.where(
            torch.isnan(x.candidate_duration_s), self.typical_duration_s, x.candidate_duration_s
        ).clamp(min=0.1)
        ids_BN3 = self._drop(x.candidate_ids)
        known_BNKW = self.tables.embed_with_statistics(ids_BN3, x.candidate_ids, statistics_BNS)
        duration_R1 = duration_BN.reshape(-1, 1)
        short_R1 = (duration_R1 <= 18.0).to(duration_R1.dtype)
        known = [
            known_BNKW.flatten(2).flatten(0, 1),
            self.co_visitation(x.candidate_ids[..., 0]).flatten(0, 1),
            torch.log(duration_R1 / self.typical_duration_s),
            short_R1,
        ]
        if self.groups is not None and self.group is not None:
            known.append(self.group(self.groups(duration_R1[:, 0])))
        if self.own is not None:
            features = x.candidate_numbers, x.candidate_categories
            known.append(self.own(*features, self.config.profile_dropout).flatten(0, 1))
        return torch.cat(known, dim=1), duration_BN

    def _interest_shares(self, x: RankerInputs, steps_BLF: Tensor, valid_BL: Tensor) -> Tensor | None:
        """How much each entry of the history and each step counts in each interest, `[B, J, S]` in [0, 1].

        None where there is one interest and everything counts in full.
        """
        if self.config.interests == "one" and self.gate is None:
            return None
        liked_BL, skipped_BL = liked_and_skipped(steps_BLF)
        counted_BL, disliked_BL = valid_BL, skipped_BL
        if self.gate is not None:
            context_BLC = skip_context(skipped_BL, x.sequence_age_s, valid_BL)
            disliked_BL = skipped_BL * self.gate(context_BLC, self.tables.tab(x.sequence_ids[..., 3]))
            counted_BL = valid_BL - skipped_BL + disliked_BL
        shares = {"one": [counted_BL], "apart": [liked_BL, disliked_BL]}
        shares["both"] = shares["one"] + shares["apart"]
        share_BLS = torch.stack(shares[self.config.interests], dim=-1)
        if self.entry is None:
            return share_BLS
        # Whether an exposure before the sequence was skipped is not known.
        valid_BH = (x.history_ids != PADDING).to(valid_BL.dtype)
        liked_BH = x.history_feedback.amax(dim=2) * valid_BH
        known = {"one": [valid_BH], "apart": [liked_BH, torch.zeros_like(valid_BH)]}
        known["both"] = known["one"] + known["apart"]
        return torch.cat([torch.stack(known[self.config.interests], dim=-1), share_BLS], dim=1)

    def _drop(self, ids: Tensor) -> Tensor:
        """While fitting, some ids become the unknown one."""
        if not self.training or self.config.id_dropout == 0:
            return ids
        drop = (torch.rand(ids.shape) < self.config.id_dropout) & (ids != PADDING)
        return torch.where(drop, UNKNOWN, ids)

    def _profile(self, x: RankerInputs) -> list[Tensor]:
        """Standardised numbers, which of them are missing, and the categories' embeddings.

        While fitting, some profiles are unknown, so that a user without one is a trained case.
        """
        missing = torch.isnan(x.profile)
        if self.training and self.config.profile_dropout > 0:
            missing = missing | (torch.rand(len(x.profile), 1) < self.config.profile_dropout)
        number = (_squash(x.profile) - self.number_mean) / self.number_std
        number = torch.where(missing, 0.0, number).clamp(-4.0, 4.0)
        return [number, missing.to(number.dtype), self.tables.categories(x.profile_ids)]


def _squash(number: Tensor) -> Tensor:
    """sign(x)·log(1 + |x|): counts such as followers span six decades."""
    return torch.sign(number) * torch.log1p(torch.abs(number))
