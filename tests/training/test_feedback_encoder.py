"""The encoder: what it may look at, and what must not matter to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.features import FEEDBACK_COLUMNS
from models.vocabulary import PADDING, UNKNOWN
from tests.training._builders import ENCODER_VARIANTS, encoder_of, log_of, ranker_request
from training.encoders import FeedbackEncoder, RankerInputs, inputs_for


@pytest.fixture(params=ENCODER_VARIANTS)
def encoder(request: pytest.FixtureRequest) -> FeedbackEncoder:
    return encoder_of(**ENCODER_VARIANTS[request.param])


def test_a_candidates_state_does_not_depend_on_the_other_candidates(encoder: FeedbackEncoder) -> None:
    x = ranker_request(1, 7, 5)
    together, _ = encoder(x)
    for n in range(7):
        one = x._replace(
            candidate_ids=x.candidate_ids[:, n : n + 1],
            candidate_duration_s=x.candidate_duration_s[:, n : n + 1],
        )
        torch.testing.assert_close(encoder(one)[0][:, 0], together[:, n], atol=1e-5, rtol=1e-5)


def test_a_users_state_does_not_depend_on_the_other_users(encoder: FeedbackEncoder) -> None:
    x = ranker_request(4, 3, 5)
    together, _ = encoder(x)
    for u in range(4):
        alone, _ = encoder(RankerInputs(*(t[u : u + 1] for t in x)))
        torch.testing.assert_close(alone[0], together[u], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pads", [1, 4, 50])
def test_padding_on_the_left_changes_nothing(encoder: FeedbackEncoder, pads: int) -> None:
    x = ranker_request(2, 3, 5)
    padded = x._replace(
        sequence_ids=torch.nn.functional.pad(x.sequence_ids, (0, 0, pads, 0), value=PADDING),
        sequence_feedback=torch.nn.functional.pad(x.sequence_feedback, (0, 0, pads, 0)),
        sequence_age_s=torch.nn.functional.pad(x.sequence_age_s, (pads, 0)),
    )
    torch.testing.assert_close(encoder(padded)[0], encoder(x)[0], atol=1e-5, rtol=1e-5)


def test_what_is_in_padded_steps_changes_nothing(encoder: FeedbackEncoder) -> None:
    x, other = ranker_request(2, 3, 9), ranker_request(2, 3, 9, seed=1)
    ids = x.sequence_ids.clone()
    ids[:, :4] = PADDING
    x = x._replace(sequence_ids=ids)
    feedback, age = x.sequence_feedback.clone(), x.sequence_age_s.clone()
    feedback[:, :4], age[:, :4] = other.sequence_feedback[:, :4], other.sequence_age_s[:, :4]
    ids = ids.clone()
    ids[:, :4, 1:] = other.sequence_ids[:, :4, 1:]
    changed = x._replace(sequence_ids=ids, sequence_feedback=feedback, sequence_age_s=age)
    torch.testing.assert_close(encoder(changed)[0], encoder(x)[0], atol=1e-5, rtol=1e-5)


def test_an_empty_history_and_unknown_ids_are_a_defined_answer(encoder: FeedbackEncoder) -> None:
    x = ranker_request(1, 3, 0)
    x = x._replace(
        candidate_ids=torch.full_like(x.candidate_ids, UNKNOWN),
        candidate_duration_s=torch.full_like(x.candidate_duration_s, torch.nan),
        profile=torch.full_like(x.profile, torch.nan),
        profile_ids=torch.full_like(x.profile_ids, UNKNOWN),
    )
    state, duration = encoder(x)
    assert torch.isfinite(state).all()
    assert (duration == encoder.typical_duration_s).all()


def test_what_was_done_with_a_video_matters_not_only_which_video(encoder: FeedbackEncoder) -> None:
    x = ranker_request(1, 3, 5)
    skipped = x.sequence_feedback.clone()
    skipped[:, 2, 0] = 0.0
    assert not torch.allclose(encoder(x._replace(sequence_feedback=skipped))[0], encoder(x)[0])


OF_OWN_FEATURES = ("candidate_numbers", "candidate_categories")
"""Without columns here: these videos have none."""


@pytest.mark.parametrize("name", [name for name in RankerInputs._fields if name not in OF_OWN_FEATURES])
def test_every_input_is_read_but_histories_only_where_it_says_so(encoder: FeedbackEncoder, name: str) -> None:
    x, other = ranker_request(1, 3, 5), ranker_request(1, 3, 5, seed=1)
    changed = x._replace(**{name: getattr(other, name)})
    is_read = not torch.allclose(encoder(changed)[0], encoder(x)[0], atol=1e-6)
    assert is_read == (encoder.reads_history or not name.startswith("history_"))


def test_ids_are_dropped_while_fitting_only(encoder: FeedbackEncoder) -> None:
    x = ranker_request(2, 3, 5)
    torch.testing.assert_close(encoder(x)[0], encoder(x)[0], atol=0, rtol=0)
    encoder.train()
    encoder.dropout.p = 0.0
    assert not torch.allclose(encoder(x)[0], encoder(x)[0])


@pytest.mark.parametrize("variant", ENCODER_VARIANTS)
def test_with_feedback_zeroed_it_is_the_feedback_blind_encoder(variant: str) -> None:
    """The one door through which feedback comes in is shut: nothing else may have read it."""
    sighted, blind = (
        encoder_of(**ENCODER_VARIANTS[variant]),
        encoder_of(**ENCODER_VARIANTS[variant], feedback=False),
    )
    blind.load_state_dict(sighted.state_dict())
    sighted.feedback.register_forward_hook(lambda _, __, done: torch.zeros_like(done))
    x = ranker_request(2, 3, 5)
    feedback = x.sequence_feedback.clone()
    feedback[..., FEEDBACK_COLUMNS.index("hate")] = 0  # a hated step is left out, not read
    x = x._replace(sequence_feedback=feedback, history_feedback=torch.zeros_like(x.history_feedback))
    torch.testing.assert_close(sighted(x)[0], blind(x)[0], atol=0, rtol=0)


def test_the_feedback_blind_encoder_knows_what_was_shown_only() -> None:
    blind, x = encoder_of(**ENCODER_VARIANTS["everything"], feedback=False), ranker_request(2, 3, 5)
    done = x.sequence_feedback.clone()
    done[..., [0, 2, 3, 4, 5, 6, 7]] = ranker_request(2, 3, 5, seed=1).sequence_feedback[
        ..., [0, 2, 3, 4, 5, 6, 7]
    ]
    torch.testing.assert_close(blind(x._replace(sequence_feedback=done))[0], blind(x)[0], atol=0, rtol=0)
    longer = x._replace(sequence_feedback=x.sequence_feedback * 3)
    assert not torch.allclose(blind(longer)[0], blind(x)[0])


def test_a_row_of_the_log_is_a_request_with_its_history() -> None:
    log = log_of([0, 0, 0, 1], [1, 2, 3, 2])
    x = inputs_for(log, np.array([2, 3]), 10)
    assert x.sequence_ids.shape == (2, 2, 4)
    assert (x.sequence_ids[1] == PADDING).all()
    assert x.candidate_ids[0, 0].tolist() == log.ids[2, :3].tolist()
    assert x.candidate_duration_s[0, 0] == log.duration_s[2]
    assert x.context_ids[0, 0] == log.ids[2, 3]
