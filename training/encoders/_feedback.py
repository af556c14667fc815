"""The encoder the served ranker is built on: candidates meet what the user did with earlier videos."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arrays import F32, F64, I64
from models.vocabulary import PADDING, UNKNOWN
from training.data import Interactions
from training.encoders._attention import CandidateAttention
from training.encoders._feedback_config import FeedbackEncoderConfig
from training.encoders._gate import SkipGate, skip_context
from training.encoders._inputs import RankerInputs
from training.encoders._statistics import KEYS, VideoStatistics
from training.encoders._steps import STEP_COLUMNS, StepFeedback, gap_s, liked_and_skipped
from training.encoders._tables import CATEGORY_WIDTH, TAB_WIDTH, EmbeddingTables
from training.encoders._user_stats import (
    MATCH_COLUMNS,
    USER_COLUMNS,
    candidate_match_features,
    step_columns,
    user_stats,
)
from training.strata import DurationGroups

# Shape suffixes: B users, L sequence steps, N candidates, R = B·N, S interests, E token width, H hidden
# width, D state width, X columns of a candidate.

INTERESTS = {"one": 1, "apart": 2, "both": 3}
"""S, the vectors that `interests` leaves a candidate."""


class FeedbackEncoder(nn.Module):
    """Sequence, candidate, profile and context -> state `[B, N, D]`.

    * A token of the sequence carries the video *and what the user did* (`StepFeedback`), how long ago, and in
      which tab; `tokens` decides in how much detail.
    * Each candidate attends over the tokens: all of them, or the liked and the skipped apart (`interests`),
      where a skip may count by its context (`gate`). It also meets its own author's and tag's steps.
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
        config: hyperparameters.
    """

    typical_duration_s: Tensor
    number_mean: Tensor
    number_std: Tensor
    column: Tensor

    def __init__(
        self,
        sizes: tuple[int, int, int, int],
        numbers: int,
        categories: tuple[int, ...],
        config: FeedbackEncoderConfig,
    ) -> None:
        super().__init__()
        e, v, h = config.token, config.video_embedding, config.hidden
        full = config.tokens == "full"
        self.config = config
        self.tables = EmbeddingTables(sizes, categories, v)
        self.register_buffer("typical_duration_s", torch.tensor(30.0))
        self.register_buffer("number_mean", torch.zeros(numbers))
        self.register_buffer("number_std", torch.ones(numbers))
        self.feedback = StepFeedback(full=full)
        self.groups = DurationGroups(config.duration_groups) if full else None
        self.group = nn.Embedding(config.duration_groups, TAB_WIDTH) if full else None
        # token: ids, tab, what was done, log duration, log age; full: duration group, log gap
        group = TAB_WIDTH if full else 0
        self.step = nn.Linear(3 * v + TAB_WIDTH + self.feedback.width + 2 + (group + 1 if full else 0), e)
        self.query = nn.Linear(3 * v + 2 + self.statistics.width + group, e)
        interests = INTERESTS[config.interests]
        self.register_buffer("column", _columns(v, self.statistics.width // KEYS, group), persistent=False)
        self.attention = CandidateAttention(e, config.heads, interests)
        self.user = nn.Linear(USER_COLUMNS + TAB_WIDTH + 2 * numbers + CATEGORY_WIDTH * len(categories), h)
        met = e + 2 * interests * e + MATCH_COLUMNS
        self.candidate = nn.Linear(met + self.statistics.width + 2, h, bias=False)
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
        return False

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
        state_RD, duration_BN = self.rows(x, statistics_BNS)
        return state_RD.reshape(*duration_BN.shape, self.config.width), duration_BN

    def rows(self, x: RankerInputs, statistics_BNS: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode, with the states one under the other, `[B·N, D]`.

        The served graph is made of few operators, since each costs about a microsecond whatever it does: rows
        instead of batches, so that a matrix with its bias is one; wide columns instead of many narrow ones.
        """
        valid_BL = (x.sequence_ids[..., 0] != PADDING).to(x.sequence_age_s.dtype)
        feedback_BLF = self.feedback(x.sequence_feedback) * valid_BL[..., None]
        if not self.config.feedback:
            feedback_BLF = torch.zeros_like(feedback_BLF)
        log_duration_BL1 = torch.log1p(x.sequence_feedback[..., 1:2]) / 4.0
        log_age_BL1 = torch.log1p(x.sequence_age_s)[..., None] / 10.0
        outcome_BLF = feedback_BLF[..., : len(STEP_COLUMNS)]
        steps_BLF = step_columns(outcome_BLF, log_duration_BL1, log_age_BL1, valid_BL)

        token_BLE = self._tokens(x, [feedback_BLF, log_duration_BL1, log_age_BL1], valid_BL)
        tab_BT = self.tables.tab(x.context_ids[..., 0])
        user_BH = self.user(torch.cat([user_stats(x, steps_BLF), tab_BT, *self._profile(x)], dim=-1))
        known_RX, duration_BN = self._candidates(x, statistics_BNS)
        to_query, to_hidden, to_bias, of_interest = self._candidate_weights()
        query_RE, direct_RH = torch.split(
            F.linear(known_RX, torch.cat([to_query, to_hidden]), torch.cat([self.query.bias, to_bias])),
            [self.config.token, self.config.hidden],
            dim=1,
        )
        share_BLS = self._interest_shares(x, outcome_BLF, valid_BL)
        query_BNE = query_RE.reshape(*duration_BN.shape, self.config.token)
        interest_RSE = self.attention(query_BNE, token_BLE, share_BLS, valid_BL).flatten(0, 1)
        met_RM = [
            interest_RSE.flatten(1),
            (query_RE[:, None] * interest_RSE).flatten(1),
            candidate_match_features(x, steps_BLF),
        ]
        candidate_RH = torch.addmm(direct_RH, torch.cat(met_RM, dim=1), of_interest.T)
        candidate_BNH = candidate_RH.reshape(*duration_BN.shape, self.config.hidden)
        hidden_BNH = self.norm(user_BH[:, None] + candidate_BNH)
        state_RD = self.state(self.dropout(F.gelu(hidden_BNH.flatten(0, 1))))
        return F.gelu(state_RD), duration_BN

    def _tokens(self, x: RankerInputs, columns: list[Tensor], valid_BL: Tensor) -> Tensor:
        """The steps as candidates attend over them, `[B, L, E]`."""
        ids = self._drop(x.sequence_ids)
        token = [self.tables.embed(ids[..., :KEYS]).flatten(2), self.tables.tab(ids[..., KEYS]), *columns]
        if self.groups is not None and self.group is not None:
            token += [
                self.group(self.groups(x.sequence_feedback[..., 1])),
                torch.log1p(gap_s(x.sequence_age_s, valid_BL))[..., None] / 10.0,
            ]
        token_BLX = torch.cat(token, dim=-1)
        rows: Tensor = F.gelu(self.step(token_BLX.flatten(0, 1)))
        return rows.reshape(*token_BLX.shape[:2], self.config.token)

    def _candidates(self, x: RankerInputs, statistics_BNS: Tensor | None) -> tuple[Tensor, Tensor]:
        """What is known of each candidate by itself, `[B·N, X]`, and its duration in seconds, `[B, N]`.

        Columns: embedding and statistics of the video, of the author, of the tag; of the duration its
        logarithm, whether it is short, and with full tokens its group.
        """
        duration_BN = torch.where(
            torch.isnan(x.candidate_duration_s), self.typical_duration_s, x.candidate_duration_s
        ).clamp(min=0.1)
        ids_BN3 = self._drop(x.candidate_ids)
        known_BNKW = self.tables.embed_with_statistics(ids_BN3, x.candidate_ids, statistics_BNS)
        duration_R1 = duration_BN.reshape(-1, 1)
        short_R1 = (duration_R1 <= 18.0).to(duration_R1.dtype)
        known = [known_BNKW.flatten(2).flatten(0, 1), torch.log(duration_R1) / 4.0, short_R1]
        if self.groups is not None and self.group is not None:
            known.append(self.group(self.groups(duration_R1[:, 0])))
        return torch.cat(known, dim=1), duration_BN

    def _candidate_weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The matrices that rows of `_candidates` meet, from those that were learned.

        The layer before the state reads the query, which is linear in the row, and parts of the row itself:
        both together are one matrix on the row, and what is left to it is what met the user's steps.

        Returns:
            The row's way into the query `[E, X]` and past it into the hidden layer `[H, X]`, the bias of the
            latter, and the way there of interests, their products with the query, and matches.
        """
        e, v = self.config.token, self.config.video_embedding
        met = INTERESTS[self.config.interests] * e
        of_query, of_interest, of_statistics, of_length = torch.split(
            self.candidate.weight, [e, 2 * met + MATCH_COLUMNS, self.statistics.width, 2], dim=1
        )
        past = [of_query.new_zeros(len(of_query), KEYS * v), of_length, of_statistics]
        if self.group is not None:
            past.append(of_query.new_zeros(len(of_query), TAB_WIDTH))
        direct_HX = of_query @ self.query.weight + torch.cat(past, dim=1)
        weights = torch.cat([self.query.weight, direct_HX]).index_select(1, self.column)
        to_query, to_hidden = torch.split(weights, [e, len(of_query)])
        return to_query, to_hidden, of_query @ self.query.bias, of_interest

    def _interest_shares(self, x: RankerInputs, outcome_BLF: Tensor, valid_BL: Tensor) -> Tensor | None:
        """How much each step counts in each interest, `[B, L, S]` in [0, 1].

        None where there is one interest and every step counts in full.
        """
        if self.config.interests == "one" and self.gate is None:
            return None
        liked_BL, skipped_BL = liked_and_skipped(outcome_BLF)
        counted_BL, disliked_BL = valid_BL, skipped_BL
        if self.gate is not None:
            context_BLC = skip_context(skipped_BL, x.sequence_age_s, valid_BL)
            disliked_BL = skipped_BL * self.gate(context_BLC, self.tables.tab(x.sequence_ids[..., 3]))
            counted_BL = valid_BL - skipped_BL + disliked_BL
        shares = {"one": [counted_BL], "apart": [liked_BL, disliked_BL]}
        shares["both"] = shares["one"] + shares["apart"]
        return torch.stack(shares[self.config.interests], dim=-1)

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
        if self.training and self.config.id_dropout > 0:
            missing = missing | (torch.rand(len(x.profile), 1) < self.config.id_dropout)
        number = (_squash(x.profile) - self.number_mean) / self.number_std
        number = torch.where(missing, 0.0, number).clamp(-4.0, 4.0)
        return [number, missing.to(number.dtype), self.tables.categories(x.profile_ids)]


def _columns(embedding_width: int, statistics: int, group: int) -> Tensor:
    """The index of each column of `_candidates` among the inputs of `query`: embeddings of all three keys,
    length, statistics of all three, group."""
    lengths = KEYS * embedding_width
    behind = lengths + 2 + KEYS * statistics
    by_key = [
        column
        for key in range(KEYS)
        for column in (
            *range(key * embedding_width, (key + 1) * embedding_width),
            *range(lengths + 2 + key * statistics, lengths + 2 + (key + 1) * statistics),
        )
    ]
    return torch.tensor([*by_key, lengths, lengths + 1, *range(behind, behind + group)])


def _squash(number: Tensor) -> Tensor:
    """sign(x)·log(1 + |x|): counts such as followers span six decades."""
    return torch.sign(number) * torch.log1p(torch.abs(number))
