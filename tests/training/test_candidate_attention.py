"""Attention for several interests: each one's answer is that of a softmax over its steps alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from training.encoders import FeedbackEncoder, FeedbackEncoderConfig
from training.encoders._attention import CandidateAttention

B, N, L, S, E, H = 2, 3, 6, 3, 12, 4


@pytest.fixture
def attention() -> CandidateAttention:
    torch.manual_seed(1)
    made = CandidateAttention(E, H, S)
    with torch.no_grad():
        made.null.normal_()
    return made.eval()


@pytest.fixture
def query() -> Tensor:
    return torch.randn(B, N, E, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def token() -> Tensor:
    return torch.randn(B, L, E, generator=torch.Generator().manual_seed(3))


def by_hand(attention: CandidateAttention, query: Tensor, token: Tensor, share_BL: Tensor, s: int) -> Tensor:
    """Interest `s` alone, a head and a user at a time; a step's share is a factor of its weight."""
    width = E // H
    out = torch.empty(B, N, E)
    for b in range(B):
        key = torch.cat([attention.null[0, s][None], attention.key(token[b])])
        value = torch.cat([attention.null[1, s][None], attention.value(token[b])])
        share = torch.cat([torch.ones(1), share_BL[b]])
        for h in range(H):
            at = slice(h * width, (h + 1) * width)
            weight = torch.exp(query[b, :, at] @ key[:, at].T / math.sqrt(width)) * share
            out[b, :, at] = weight / weight.sum(1, keepdim=True) @ value[:, at]
    return out


def test_every_interest_is_attended_as_if_it_were_alone(
    attention: CandidateAttention, query: Tensor, token: Tensor
) -> None:
    share = torch.rand(B, L, S, generator=torch.Generator().manual_seed(4))
    share[:, :, 1] = (share[:, :, 1] > 0.5).float()
    share[:, 0] = 0.0
    valid = torch.ones(B, L)
    valid[:, 0] = 0.0
    with torch.no_grad():
        got = attention(query, token, share, valid)
        for s in range(S):
            want = by_hand(attention, query, token, share[:, :, s], s)
            torch.testing.assert_close(got[:, :, s], want, atol=1e-5, rtol=1e-5)


def test_an_interest_without_steps_answers_its_null_token(
    attention: CandidateAttention, query: Tensor, token: Tensor
) -> None:
    share = torch.ones(B, L, S)
    share[:, :, 2] = 0.0
    got = attention(query, token, share, torch.ones(B, L))
    torch.testing.assert_close(got[:, :, 2], attention.null[1, 2].expand(B, N, E), atol=1e-5, rtol=1e-5)
    empty = attention(query, token[:, :0], share[:, :0], torch.ones(B, 0))
    torch.testing.assert_close(empty, attention.null[1].expand(B, N, S, E), atol=1e-5, rtol=1e-5)


def test_steps_outside_an_interest_do_not_change_it(
    attention: CandidateAttention, query: Tensor, token: Tensor
) -> None:
    share, valid = torch.zeros(B, L, S), torch.ones(B, L)
    share[:, :3, 0] = 1.0
    share[:, 3:, 1] = 1.0
    other = token.clone()
    other[:, 3:] += 1.0
    was, became = attention(query, token, share, valid), attention(query, other, share, valid)
    torch.testing.assert_close(became[:, :, 0], was[:, :, 0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(became[:, :, 1], was[:, :, 1])


def test_a_padded_step_does_not_drown_the_others(
    attention: CandidateAttention, query: Tensor, token: Tensor
) -> None:
    """However large its logit, it takes no part in the common softmax."""
    share, valid = torch.ones(B, L, S), torch.ones(B, L)
    share[:, 0] = valid[:, 0] = 0.0
    large = token.clone()
    large[:, 0] = 500.0
    was, became = attention(query, token, share, valid), attention(query, large, share, valid)
    torch.testing.assert_close(became, was, atol=1e-5, rtol=1e-5)


def test_logits_far_apart_leave_every_interest_finite(attention: CandidateAttention, query: Tensor) -> None:
    """One interest's steps outweigh the other's by more than a float32 can hold."""
    token = torch.cat([torch.full((B, 3, E), 300.0), torch.full((B, 3, E), -300.0)], dim=1)
    share = torch.zeros(B, L, S)
    share[:, :3, 0] = share[:, 3:, 1] = 1.0
    assert torch.isfinite(attention(query, token, share, torch.ones(B, L))).all()


def test_one_interest_of_all_steps_needs_no_shares(query: Tensor, token: Tensor) -> None:
    torch.manual_seed(5)
    attention = CandidateAttention(E, H, 1).eval()
    torch.nn.init.normal_(attention.null)
    valid = torch.ones(B, L)
    valid[0, :2] = 0.0
    with torch.no_grad():
        got = attention(query, token, None, valid)
        torch.testing.assert_close(got[:, :, 0], by_hand(attention, query, token, valid, 0))
        torch.testing.assert_close(got, attention(query, token, valid[..., None], valid))


@pytest.mark.parametrize(("interests", "vectors"), [("one", 1), ("apart", 2), ("both", 3)])
def test_interests_determine_how_many_vectors_a_candidate_gets(interests: str, vectors: int) -> None:
    config = FeedbackEncoderConfig.model_validate({"interests": interests, "token": 8, "heads": 2})
    encoder = FeedbackEncoder((9, 5, 4, 4), 2, (4,), config)
    assert encoder.attention.null.shape == (2, vectors, 8)
