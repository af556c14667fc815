"""A skip's circumstances are counted as one would by hand, and the gate weighs it by them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.arrays import I64
from tests.training._builders import ENCODER_VARIANTS, encoder_of, ranker_request
from training.data import SyntheticConfig, simulate_log
from training.encoders import inputs_for
from training.encoders._gate import CONTEXT, SESSION_GAP_S, SkipGate, skip_context
from training.encoders._steps import FIRST_GAP_S, StepFeedback, liked_and_skipped

GATED = ENCODER_VARIANTS["everything"]
HURRIED = CONTEXT.index("hurried")


def row(watch: float, duration: float, **flags: float) -> list[float]:
    names = ("like", "follow", "comment", "forward", "hate", "profile_enter")
    return [watch, duration, *(flags.get(name, 0.0) for name in names)]


@pytest.mark.parametrize(
    ("feedback", "liked", "skipped"),
    [
        (row(30, 60), 1, 0),
        (row(10, 10), 1, 0),
        (row(10, 60), 0, 0),
        (row(1, 60), 0, 1),
        (row(1, 60, like=1), 1, 0),
        (row(1, 60, forward=1, follow=1), 1, 0),
        (row(1, 60, hate=1), 0, 1),
        (row(1, 60, profile_enter=1), 0, 1),
        (row(0.5, 0.5), 1, 0),
    ],
)
def test_a_step_is_liked_or_skipped_or_neither(feedback: list[float], liked: int, skipped: int) -> None:
    done = StepFeedback(full=False)(torch.tensor([[feedback]]))
    got = liked_and_skipped(done)
    assert (got[0].item(), got[1].item()) == (liked, skipped)


def test_full_steps_contain_an_effective_view_and_a_bucket_of_the_ratio() -> None:
    full = StepFeedback(full=True)
    steps = torch.tensor([[row(8, 60), row(6, 60), row(6, 6), row(5, 6), row(60, 60), row(61, 60)]])
    done = full(steps)
    effective = done.shape[-1] - 1 - 4
    assert done[0, :, effective].tolist() == [1, 0, 1, 0, 1, 1]
    torch.testing.assert_close(done[0, 4, effective + 1 :], done[0, 5, effective + 1 :])
    assert not torch.allclose(done[0, 0, effective + 1 :], done[0, 4, effective + 1 :])


timelines = st.lists(
    st.tuples(st.booleans(), st.sampled_from([1.0, 60.0, 1799.0, 1801.0, 1e5])), min_size=0, max_size=12
)


@given(timelines, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_the_context_is_what_one_counts_by_hand(steps: list[tuple[bool, float]], pads: int) -> None:
    skip = [s for s, _ in steps]
    time = np.cumsum([gap for _, gap in steps])
    now = float(time[-1] + 5.0) if steps else 0.0
    session = np.cumsum([i == 0 or gap > SESSION_GAP_S for i, (_, gap) in enumerate(steps)])

    def tensor(values: list[float], fill: float) -> Tensor:
        return torch.tensor([[fill] * pads + values], dtype=torch.float32)

    context = skip_context(
        tensor([float(s) for s in skip], 1.0),
        tensor([now - float(t) for t in time], 7.0),
        tensor([1.0] * len(steps), 0.0),
    )[0, pads:]
    for j in range(len(steps)):
        mine = [i for i in range(len(steps)) if session[i] == session[j]]
        position = len([i for i in mine if i < j])
        streak = 0
        while j - streak - 1 in mine and skip[j - streak - 1]:
            streak += 1
        gap = steps[j][1] if j else FIRST_GAP_S
        hurried = sum(skip[i] for i in mine if i != j) / len(mine)
        want = [np.log1p(position) / 4, np.log1p(streak) / 4, np.log1p(gap) / 10, hurried]
        np.testing.assert_allclose(context[j].numpy(), want, atol=2e-3)


def test_the_context_separates_hurried_sessions_of_the_simulated_log() -> None:
    """Whether a skip was of a hurried session is known there, and hidden from the encoder."""
    config = SyntheticConfig(users=60, videos=200, exposures=3_000)
    simulated = simulate_log(config, seed=2)
    log = simulated.dataset().interactions(simulated.dataset().vocabulary(2**60, 1))
    steps = 30
    rows: I64 = np.flatnonzero(np.arange(len(log)) - log.first_row() >= steps)[::10]
    x = inputs_for(log, rows, steps)
    _, skipped = liked_and_skipped(StepFeedback(full=False)(x.sequence_feedback))
    hurried = skip_context(skipped, x.sequence_age_s, torch.ones_like(skipped))[..., HURRIED]
    truth = torch.from_numpy(simulated.hurried[rows[:, None] - steps + np.arange(steps)])
    a, b = hurried[(skipped > 0) & truth], hurried[(skipped > 0) & ~truth]
    assert float((a[:, None] > b[None]).float().mean()) > 0.7


def test_the_gate_begins_where_nearly_every_skip_counts() -> None:
    torch.manual_seed(0)
    gate = SkipGate(4)
    g = gate(torch.rand(5, 7, len(CONTEXT)), torch.randn(5, 7, 4))
    assert ((g > 0.7) & (g < 1)).all()


def test_other_circumstances_other_gate() -> None:
    """Circumstances that are dealt to other steps move the gate with them."""
    torch.manual_seed(0)
    gate, context, tab = SkipGate(4), torch.rand(1, 7, len(CONTEXT)), torch.randn(1, 1, 4).expand(1, 7, 4)
    order = torch.tensor([3, 1, 6, 0, 5, 2, 4])
    g = gate(context, tab)
    assert not torch.allclose(gate(context[:, order], tab), g)
    torch.testing.assert_close(gate(context[:, order], tab), g[:, order])
    assert not torch.allclose(gate(context, tab + 1.0), g)


def test_an_open_gate_is_no_gate() -> None:
    x = ranker_request(2, 3, 8)
    ungated = encoder_of(**(GATED | {"gate": False}))
    gated = encoder_of(**GATED)
    assert gated.gate is not None
    gated.load_state_dict(ungated.state_dict() | {f"gate.{k}": v for k, v in gated.gate.state_dict().items()})
    torch.nn.init.constant_(gated.gate.last.bias, 40.0)
    torch.testing.assert_close(gated(x)[0], ungated(x)[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("bias", "changed"), [(-40.0, [False, False, False]), (40.0, [True, False, True])])
def test_a_shut_gate_forgets_which_videos_were_skipped(bias: float, changed: list[bool]) -> None:
    """Every second step is a skip, of one video or of another: that is seen in the interest in all steps and
    in the skipped ones through an open gate, through a shut one nowhere, and in the liked ones never."""
    gated = encoder_of(**GATED)
    assert gated.gate is not None
    torch.nn.init.constant_(gated.gate.last.bias, bias)
    x = ranker_request(1, 3, 8)
    skips = torch.arange(8) % 2 == 0
    feedback = x.sequence_feedback.clone()
    feedback[..., 2:] = 0.0
    feedback[..., 0] = torch.where(skips, 0.5, 100.0)
    feedback[..., 1] = 30.0
    x = x._replace(sequence_feedback=feedback)
    other = torch.where(skips[:, None], ranker_request(1, 3, 8, seed=1).sequence_ids, x.sequence_ids)
    seen: list[Tensor] = []
    gated.attention.register_forward_hook(lambda _, inputs, out: seen.append(out))
    gated(x)
    gated(x._replace(sequence_ids=other))
    moved = (seen[1] - seen[0]).abs().amax(dim=(0, 1, 3)) > 1e-5
    assert moved.tolist() == changed


def test_skips_of_the_gate_pass_gradients_to_it() -> None:
    gated, x = encoder_of(**GATED), ranker_request(2, 3, 8)
    assert gated.gate is not None
    feedback = x.sequence_feedback.clone()
    feedback[:, ::2, 0] = 0.5
    gated(x._replace(sequence_feedback=feedback))[0].sum().backward()
    assert gated.gate.last.weight.grad is not None
    assert gated.gate.last.weight.grad.abs().sum() > 0
