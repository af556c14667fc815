"""Every label maker: a label, of its row alone, the same in ONNX; then what is special to each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from models.errors import BadInput
from models.features import FEEDBACK_COLUMNS
from tests.training._asserts import (
    assert_does_not_fall_with_watch_time,
    assert_exports,
    assert_is_label,
    assert_row_wise,
    log_of,
)
from tests.training._builders import watched_log
from training.labelcraft import LabelCraft, LabelCraftConfig
from training.labels import D2Q, EF, PC, PCR, WT, LabelMaker

LOG = watched_log()
FEEDBACK = torch.from_numpy(LOG.feedback)


def makers() -> list[LabelMaker]:
    torch.manual_seed(0)
    raw = LabelCraft(LabelCraftConfig(inputs="raw", bias=False, hidden=16))
    every: list[LabelMaker] = [WT(), EF(), PC(), PCR(), D2Q(groups=20), LabelCraft(), raw]
    return [maker.fit(LOG) for maker in every]


EVERY = pytest.mark.parametrize("maker", makers(), ids=lambda m: m.name)


@EVERY
def test_is_a_label_of_its_row_alone(maker: LabelMaker) -> None:
    assert_is_label(maker, FEEDBACK)
    assert_row_wise(maker, FEEDBACK)


@EVERY
def test_labels_in_onnx_as_in_torch(maker: LabelMaker, tmp_path: Path) -> None:
    assert_exports(maker, FEEDBACK, tmp_path)


@pytest.mark.parametrize("maker", [WT(), PC(), PCR(), D2Q(groups=20)], ids=lambda m: m.name)
@pytest.mark.parametrize("duration_s", [7.0, 30.0, 500.0])
def test_does_not_fall_with_the_watch_time(maker: LabelMaker, duration_s: float) -> None:
    assert_does_not_fall_with_watch_time(maker.fit(LOG), duration_s)


def test_a_replay_is_complete_and_its_rate_is_one_while_the_log_keeps_the_ratio() -> None:
    log = log_of([20.0, 10.0, 9.99, 0.0], [10.0, 10.0, 10.0, 10.0])
    feedback = torch.from_numpy(log.feedback)
    assert PC()(feedback).tolist() == [1.0, 1.0, 0.0, 0.0]
    torch.testing.assert_close(PCR()(feedback), torch.tensor([1.0, 1.0, 0.999, 0.0]))
    assert float(feedback[0, 0] / feedback[0, 1]) == 2.0


@pytest.mark.parametrize("flag", FEEDBACK_COLUMNS[2:])
def test_explicit_feedback_is_what_the_schema_calls_so(flag: str) -> None:
    feedback = torch.zeros(1, 8)
    feedback[0, FEEDBACK_COLUMNS.index(flag)] = 1
    assert float(EF()(feedback)) == (0.0 if flag in ("hate", "profile_enter") else 1.0)


def test_wt_does_not_know_how_long_the_video_is() -> None:
    feedback = FEEDBACK.clone()
    feedback[:, 1] = 1.0
    torch.testing.assert_close(WT().fit(LOG)(feedback), WT().fit(LOG)(FEEDBACK))


def test_d2q_is_uniform_within_each_duration_group() -> None:
    maker = D2Q(groups=8).fit(LOG)
    label = maker(FEEDBACK).numpy()
    group = maker.groups(FEEDBACK[:, 1]).numpy()
    watched = LOG.watch_time_s > 0  # a tenth ties at 0 s, on purpose
    for g in range(8):
        inside = label[(group == g) & watched]
        assert stats.kstest((inside - inside.min()) / np.ptp(inside), "uniform").statistic < 0.05


def test_d2q_takes_the_duration_out_where_watch_time_does_not() -> None:
    label = D2Q(groups=20).fit(LOG)(FEEDBACK).numpy()
    assert abs(stats.spearmanr(label, LOG.duration_s).statistic) < 0.03
    assert stats.spearmanr(WT().fit(LOG)(FEEDBACK).numpy(), LOG.duration_s).statistic > 0.3


def test_d2q_goes_back_to_the_seconds_it_came_from() -> None:
    maker = D2Q(groups=20).fit(LOG)
    inside = torch.from_numpy(LOG.watch_time_s) > 0
    back = maker.seconds(maker(FEEDBACK), FEEDBACK[:, 1])
    torch.testing.assert_close(back[inside], FEEDBACK[inside, 0], rtol=1e-4, atol=1e-3)


def test_d2q_labels_what_most_skipped_low_and_by_the_middle_of_the_tie() -> None:
    log = log_of([0.0] * 60 + [9.0] * 40, [10.0] * 100)
    label = D2Q(groups=1).fit(log)(torch.from_numpy(log.feedback))
    assert float(label[0]) == pytest.approx(0.3, abs=0.01)
    assert float(label[-1]) == pytest.approx(0.8, abs=0.01)


def test_d2q_routes_durations_it_never_saw_and_merges_groups_it_cannot_tell_apart() -> None:
    log = log_of([1.0, 2.0, 3.0, 4.0], [10.0, 10.0, 10.0, 20.0])
    maker = D2Q(groups=50, thin=1).fit(log)
    assert int((maker.quantiles.count[:-1] > 0).sum()) == 2
    feedback = torch.zeros(2, 8)
    feedback[:, 0], feedback[:, 1] = 2.0, torch.tensor([0.1, 9999.0])
    assert maker(feedback).tolist() == pytest.approx([0.5, 0.0], abs=1e-6)


def test_d2q_ranks_a_thin_group_among_all_rows() -> None:
    log = log_of([1.0, 2.0, 3.0] + [9.0] * 97, [300.0] * 3 + [10.0] * 97)
    label = D2Q(groups=50, thin=5).fit(log)(torch.from_numpy(log.feedback))
    assert float(label[:3].max()) < 0.05
    alone = D2Q(groups=50, thin=1).fit(log)(torch.from_numpy(log.feedback))
    assert float(alone[2]) > 0.9


def test_d2q_refuses_to_read_quantiles_off_nothing() -> None:
    with pytest.raises(BadInput, match="training rows"):
        D2Q().fit(LOG.take(np.zeros(0, np.int64)))
    with pytest.raises(ValueError, match="`groups`"):
        D2Q(groups=0)


def test_the_authors_labelcraft_gives_nothing_watched_one_half() -> None:
    """Raw inputs, no biases: g(0, 0, 0) = 0.5 whatever φ is."""
    maker = LabelCraft(LabelCraftConfig(inputs="raw", bias=False))
    assert maker(torch.zeros(1, 8)).tolist() == [0.5]
    assert [tuple(p.shape) for p in maker.parameters()] == [(256, 3), (256, 256), (1, 256)]


def test_relevel_moves_the_mean_and_keeps_the_order() -> None:
    torch.manual_seed(0)
    maker = LabelCraft().fit(LOG)
    before = maker(FEEDBACK).detach()
    after = maker.relevel(FEEDBACK, float(before.mean()) + 0.1)
    assert float(after.mean()) == pytest.approx(float(before.mean()) + 0.1, abs=1e-3)
    torch.testing.assert_close(
        torch.logit(after) - torch.logit(before), torch.full_like(after, 0.4), rtol=0, atol=0.1
    )
    assert bool((after[before.argsort()].diff() >= -1e-6).all())
