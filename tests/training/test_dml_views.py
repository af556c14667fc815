"""DML's progress labels: one threshold for all rows, or one a duration group, user group or tag."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from models.arrays import F32, F64, I64
from models.errors import BadInput
from models.vocabulary import FIRST, PADDING, UNKNOWN
from tests.training._builders import grouped_log, watch_log, watched_log
from training.data import Interactions
from training.labels import (
    VIEWS,
    LabelMaker,
    ProgressView,
    ProgressViewByDuration,
    ProgressViewByGroup,
    labels_of,
)

Kind = Literal["", "d", "u", "v"]
GROUP_OF: dict[Kind, Literal["user_group", "tag"]] = {"u": "user_group", "v": "tag"}
KINDS: tuple[Kind, ...] = ("", "d", "u", "v")
SHARE = {"ev": 0.5, "lv": 0.25}
"""What is left above the threshold."""


LOG = grouped_log(watched_log())
FEEDBACK, GROUPS = torch.from_numpy(LOG.feedback), torch.from_numpy(LOG.groups)


def maker_of(view: Literal["ev", "lv"], kind: Kind, min_rows: int = 50) -> LabelMaker:
    match kind:
        case "":
            return ProgressView(view)
        case "d":
            return ProgressViewByDuration(view, 20, min_rows=min_rows)
        case _:
            return ProgressViewByGroup(view, GROUP_OF[kind], min_rows=min_rows)


def group_of(maker: LabelMaker, kind: Kind) -> I64:
    """`[N]` the group of each row of LOG, -1 where it is of none."""
    if isinstance(maker, ProgressViewByDuration):
        of_row: I64 = maker.groups(FEEDBACK[:, 1]).numpy()
        return of_row
    if kind == "":
        return np.zeros(len(LOG), np.int64)
    row = LOG.groups[:, 1 if kind == "u" else 0].copy()
    row[row == UNKNOWN] = -1
    return row


EVERY = pytest.mark.parametrize(("view", "kind"), [(v, k) for v in VIEWS for k in KINDS])
VIEW = pytest.mark.parametrize("view", VIEWS)
GROUP = pytest.mark.parametrize("kind", ["u", "v"])


# --- oracle 2: the share of rows with the label is the same in every group, which without groups it is not


@EVERY
def test_in_every_group_a_half_has_the_effective_view_and_a_quarter_the_long(
    view: Literal["ev", "lv"], kind: Kind
) -> None:
    maker = maker_of(view, kind).fit(LOG)
    label, group = labels_of(maker, LOG), group_of(maker, kind)
    assert set(label.tolist()) == {0.0, 1.0}
    for g in range(int(group.max()) + 1):
        watch = LOG.watch_time_s[group == g]
        if len(watch) < 50:
            continue
        at = watch[label[group == g] == 1].min()
        tied = float((watch == at).mean())
        share = float((label[group == g] == 1).mean())
        assert SHARE[view] <= share <= SHARE[view] + tied


@VIEW
@pytest.mark.parametrize("kind", ["d", "u", "v"])
def test_without_groups_the_share_differs_between_them(view: Literal["ev", "lv"], kind: Kind) -> None:
    plain = labels_of(ProgressView(view).fit(LOG), LOG)
    group = group_of(maker_of(view, kind).fit(LOG), kind)
    share = [plain[group == g].mean() for g in np.unique(group[group >= 0])]
    assert max(share) - min(share) > 0.15


def test_the_threshold_is_a_watch_time_that_a_share_stays_below() -> None:
    log = watch_log([float(w) for w in range(100)], [10.0] * 100)
    for view, at in (("ev", 49.0), ("lv", 74.0)):
        maker = maker_of(view, "").fit(log)  # type: ignore[arg-type]
        label = labels_of(maker, log)
        assert label.tolist() == [float(w >= at) for w in range(100)]


# --- oracle 4: only the order of watch times matters


@EVERY
@pytest.mark.parametrize("change", [lambda w: 3 * w + 7, np.sqrt, np.expm1], ids=["linear", "root", "exp"])
def test_labels_do_not_change_under_an_increasing_function_of_the_watch_time(
    view: Literal["ev", "lv"], kind: Kind, change: np.ufunc
) -> None:
    watch = np.round(np.minimum(LOG.watch_time_s, 60.0) * 4) / 4  # e^60 fits into a float32
    before, after = (replace(LOG, feedback=with_watch(w)) for w in (watch, change(watch)))
    want, got = (labels_of(maker_of(view, kind).fit(log), log) for log in (before, after))
    np.testing.assert_array_equal(got, want)


def with_watch(watch: F32 | F64) -> F32:
    feedback = LOG.feedback.copy()
    feedback[:, 0] = watch
    return feedback


# --- oracle 5: fitted on train, applied to what comes


@EVERY
def test_one_new_event_is_labelled_by_the_thresholds_of_train(view: Literal["ev", "lv"], kind: Kind) -> None:
    maker = maker_of(view, kind).fit(LOG)
    want = labels_of(maker, LOG)
    for row in (3, 1777):
        assert labels_of(maker, LOG.take(np.array([row])))[0] == want[row]
    event = LOG.take(np.array([3]))
    event.feedback[0, 0] = 1e9
    assert labels_of(maker, event)[0] == 1.0
    event.feedback[0, 0] = 0.0
    assert labels_of(maker, event)[0] == 0.0


# --- groups that are thin, or not known


@VIEW
@GROUP
def test_who_belongs_to_no_known_group_is_compared_with_all_rows(
    view: Literal["ev", "lv"], kind: Literal["u", "v"]
) -> None:
    maker = ProgressViewByGroup(view, GROUP_OF[kind]).fit(LOG)
    plain = ProgressView(view).fit(LOG)
    assert float(maker.threshold[-1]) == float(plain.threshold)
    of_group = [float(t) for t in maker.threshold[:-1]]
    assert of_group == sorted(of_group)  # by construction of the log
    assert len(set(of_group)) == len(of_group)
    for row in (PADDING, UNKNOWN, 9999):
        groups = torch.full((len(LOG), 2), row)
        torch.testing.assert_close(maker(FEEDBACK, groups), plain(FEEDBACK))


@GROUP
def test_only_its_own_column_is_read(kind: Literal["u", "v"]) -> None:
    maker = ProgressViewByGroup("ev", GROUP_OF[kind]).fit(LOG)
    assert maker.group_columns == (("user_group",) if kind == "u" else ("tag",))
    other = GROUPS.clone()
    other[:, 0 if kind == "u" else 1] = UNKNOWN
    torch.testing.assert_close(maker(FEEDBACK, other), maker(FEEDBACK, GROUPS))
    assert not maker(FEEDBACK, other.flip(1)).equal(maker(FEEDBACK, GROUPS))


@VIEW
@pytest.mark.parametrize("kind", ["d", "u", "v"])
def test_a_group_of_few_rows_has_the_threshold_of_all_rows(view: Literal["ev", "lv"], kind: Kind) -> None:
    """The longest videos, the last user group, the last tag: 49 rows of each, or 50."""
    rows = np.arange(1000)
    for few, alone in ((49, False), (50, True)):
        last = rows >= 1000 - few
        watch, duration = np.where(last, 500.0 + rows, rows % 97), np.where(last, 900.0, 10.0 + rows % 2)
        log = watch_log(watch, duration)
        ids = log.ids.copy()
        ids[:, 2] = FIRST + last
        log = replace(
            log,
            ids=ids,
            user=last.astype(np.int64),
            user_ids=("a", "b"),
            profile=np.zeros((2, 0), np.float32),
            profile_ids=np.array([[FIRST], [FIRST + 1]]),
        )
        share = labels_of(maker_of(view, kind).fit(log), log)[last].mean()
        assert share == pytest.approx(SHARE[view], abs=0.03) if alone else share == 1.0


# --- what they cannot do


@pytest.mark.parametrize(
    ("kind", "log", "match"),
    [
        *(
            ("u", watched_log(rows), "no user group .a categorical profile feature. has 50")
            for rows in (1, 500)
        ),
        ("v", watched_log(500), "no tag has 50 training rows; use dml_ev"),
        ("d", watch_log([*range(60)], [9.0] * 60), "every video is 9 s long; use dml_ev"),
        ("", watch_log([0.0] * 60 + [5.0] * 40, [9.0] * 100), "dml_ev is 1 on every training row"),
        ("d", watch_log([3.0] * 100, [9.0, 10.0] * 50), "dml_ev_d is 1 on every training row"),
    ],
)
def test_what_they_cannot_fit_is_refused_in_one_line(kind: Kind, log: Interactions, match: str) -> None:
    with pytest.raises(BadInput, match=match) as refused:
        maker_of("ev", kind).fit(log)
    assert "\n" not in str(refused.value)


# --- labels of a log


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_a_log_are_the_makers_a_chunk_at_a_time(kind: Kind) -> None:
    maker = maker_of("ev", kind).fit(LOG)
    want = maker(FEEDBACK, GROUPS).numpy()
    for chunk in (1000, len(LOG), 10**6):
        np.testing.assert_array_equal(labels_of(maker, LOG, chunk), want)
    assert labels_of(maker, LOG.take(np.zeros(0, np.int64))).shape == (0,)


def test_a_maker_that_compares_within_groups_is_not_run_without_them() -> None:
    with pytest.raises(ValueError, match="dml_ev_v compares within groups"):
        ProgressViewByGroup("ev", "tag").fit(LOG)(FEEDBACK)
