"""Every label maker: a label, of its row alone, the same in ONNX; then what is special to each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from models.errors import BadInput
from models.features import FEEDBACK_COLUMNS
from models.vocabulary import FIRST
from tests.training._asserts import (
    assert_does_not_fall_with_watch_time,
    assert_exports,
    assert_is_label,
    assert_row_wise,
)
from tests.training._builders import grouped_log, watch_log, watched_log
from training.labelcraft import LabelCraft, LabelCraftConfig
from training.labels import (
    D2Q,
    EF,
    PC,
    PCR,
    RAD,
    VIEWS,
    WPR,
    WT,
    WTG,
    D2Co,
    LabelMaker,
    ProgressView,
    ProgressViewByDuration,
    ProgressViewByGroup,
    SASRecBinary,
    SASRecRatio,
    WTGRelevant,
)

LOG = watched_log()
FEEDBACK = torch.from_numpy(LOG.feedback)
GROUPED = grouped_log(LOG)

MAKERS: dict[str, Callable[[], LabelMaker]] = {
    "wt": WT,
    "ef": EF,
    "pc": PC,
    "pcr": PCR,
    "d2q": lambda: D2Q(groups=20),
    "labelcraft": LabelCraft,
    "labelcraft of raw inputs": lambda: LabelCraft(LabelCraftConfig(inputs="raw", bias=False, hidden=16)),
    "wtg": WTG,
    "wtg_relevant": WTGRelevant,
    "sasrec_binary": SASRecBinary,
    "sasrec_ratio": SASRecRatio,
    "d2co linear": lambda: D2Co(alpha=0.0),
    "d2co exponential": lambda: D2Co(alpha=0.05),
    "dml_wpr": lambda: WPR(debias=False),
    "dml_wpr_d": lambda: WPR(debias=True),
    "dml_ev": lambda: ProgressView("ev"),
    "dml_lv": lambda: ProgressView("lv"),
    "dml_ev_d": lambda: ProgressViewByDuration("ev", 20),
    "dml_lv_d": lambda: ProgressViewByDuration("lv", 20),
    "dml_ev_u": lambda: ProgressViewByGroup("ev", "user_group"),
    "dml_lv_u": lambda: ProgressViewByGroup("lv", "user_group"),
    "dml_ev_v": lambda: ProgressViewByGroup("ev", "tag"),
    "dml_lv_v": lambda: ProgressViewByGroup("lv", "tag"),
    "rad": RAD,
}
GROUP_COLUMNS = (("u", "user_group"), ("v", "tag"))
BY_GROUP: dict[str, tuple[str, ...]] = {
    f"dml_{view}_{kind}": (column,) for view in VIEWS for kind, column in GROUP_COLUMNS
}
BY_GROUP["rad"] = RAD.group_columns
LEARNED = {"labelcraft", "labelcraft of raw inputs"}
SAME_GRAPH = {"d2co linear", "dml_lv", "dml_lv_d", "dml_lv_u", "dml_ev_v", "dml_lv_v"}
"""Those whose graph is a part of another's, or differs from it in a number."""


def fitted(name: str) -> tuple[LabelMaker, torch.Tensor, torch.Tensor | None]:
    """Return a fitted maker, and the feedback and groups of its log."""
    torch.manual_seed(0)
    log = GROUPED if name.startswith(("dml_ev", "dml_lv", "rad")) else LOG
    maker = MAKERS[name]().fit(log)
    return maker, torch.from_numpy(log.feedback), torch.from_numpy(log.groups) if name in BY_GROUP else None


@pytest.mark.parametrize("name", MAKERS)
def test_is_a_label_of_its_row_alone(name: str) -> None:
    maker, feedback, groups = fitted(name)
    assert maker.name == name.partition(" ")[0]
    assert maker.group_columns == BY_GROUP.get(name, ())
    assert_is_label(maker, feedback, groups)
    assert_row_wise(maker, feedback, groups)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MAKERS.keys() - SAME_GRAPH))
def test_labels_in_onnx_as_in_torch(name: str, tmp_path: Path) -> None:
    maker, feedback, groups = fitted(name)
    assert_exports(maker, feedback, tmp_path, groups)


@pytest.mark.parametrize("name", sorted(MAKERS.keys() - LEARNED - BY_GROUP.keys()))
def test_does_not_fall_with_the_watch_time(name: str) -> None:
    for duration_s in (7.0, 30.0, 500.0, 9999.0):
        assert_does_not_fall_with_watch_time(fitted(name)[0], duration_s)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("d2q", "training rows"),
        ("wtg", "WTG needs training rows"),
        ("wtg_relevant", "WTG relevance needs training rows"),
        ("d2co exponential", "D2Co needs training rows"),
        ("dml_wpr", "dml_wpr needs training rows .* found none"),
        ("dml_wpr_d", "dml_wpr_d needs training rows .* found none"),
        ("dml_ev", "found none; check the dates"),
        ("dml_ev_d", "found none; check the dates"),
        ("dml_lv_u", "found none"),
        ("dml_lv_v", "found none"),
    ],
)
def test_a_maker_that_reads_a_table_refuses_a_log_without_rows(name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message) as refused:
        MAKERS[name]().fit(LOG.take(np.zeros(0, np.int64)))
    assert "\n" not in str(refused.value)


def test_a_replay_is_complete_and_its_rate_is_one_while_the_log_keeps_the_ratio() -> None:
    log = watch_log([20.0, 10.0, 9.99, 0.0], [10.0, 10.0, 10.0, 10.0])
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
    log = watch_log([0.0] * 60 + [9.0] * 40, [10.0] * 100)
    label = D2Q(groups=1).fit(log)(torch.from_numpy(log.feedback))
    assert float(label[0]) == pytest.approx(0.3, abs=0.01)
    assert float(label[-1]) == pytest.approx(0.8, abs=0.01)


def test_d2q_routes_durations_it_never_saw_and_merges_groups_it_cannot_tell_apart() -> None:
    log = watch_log([1.0, 2.0, 3.0, 4.0], [10.0, 10.0, 10.0, 20.0])
    maker = D2Q(groups=50, min_rows=1).fit(log)
    assert int((maker.quantiles.count[:-1] > 0).sum()) == 2
    feedback = torch.zeros(2, 8)
    feedback[:, 0], feedback[:, 1] = 2.0, torch.tensor([0.1, 9999.0])
    assert maker(feedback).tolist() == pytest.approx([0.5, 0.0], abs=1e-6)


def test_d2q_ranks_a_thin_group_among_all_rows() -> None:
    log = watch_log([1.0, 2.0, 3.0] + [9.0] * 97, [300.0] * 3 + [10.0] * 97)
    label = D2Q(groups=50, min_rows=5).fit(log)(torch.from_numpy(log.feedback))
    assert float(label[:3].max()) < 0.05
    alone = D2Q(groups=50, min_rows=1).fit(log)(torch.from_numpy(log.feedback))
    assert float(alone[2]) > 0.9


def test_d2q_refuses_to_have_no_groups() -> None:
    with pytest.raises(ValueError, match="`groups`"):
        D2Q(groups=0)


def test_the_authors_labelcraft_gives_nothing_watched_one_half() -> None:
    """Raw inputs, no biases: g(0, 0, 0) = 0.5 whatever φ is."""
    maker = LabelCraft(LabelCraftConfig(inputs="raw", bias=False))
    assert maker(torch.zeros(1, 8)).tolist() == [0.5]
    assert [tuple(p.shape) for p in maker.parameters()] == [(256, 3), (256, 256), (1, 256)]


def test_rad_is_the_mean_rank_among_the_users_group_and_the_videos_group() -> None:
    watched, groups = GROUPED.watch_time_s, GROUPED.groups
    maker = RAD(min_rows=1).fit(GROUPED)
    label = maker(torch.from_numpy(GROUPED.feedback), torch.from_numpy(groups)).numpy()
    for row in range(0, len(watched), 97):
        same = [(groups[:, c] == groups[row, c]) | (groups[row, c] < FIRST) for c in range(2)]
        among = [watched[rows] for rows in same]  # of an unknown group: all
        middle = [((group < watched[row]).mean() + (group <= watched[row]).mean()) / 2 for group in among]
        assert label[row] == pytest.approx(np.mean(middle), abs=0.03)


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
