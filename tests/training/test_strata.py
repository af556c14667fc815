"""Quantiles and moments within strata: what they promise to every label and head that is built on them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from models.arrays import F32, I64
from models.errors import BadInput
from tests.training._asserts import assert_onnx_agrees_with_torch
from training.strata import DurationGroups, StratifiedMoments, StratifiedQuantiles
from training.train.run_config import restore


def values_in_strata(rows: int = 4000, strata: int = 5, seed: int = 0) -> tuple[F32, I64]:
    random = np.random.default_rng(seed)
    stratum = random.integers(strata, size=rows)
    return random.gamma(2.0, 1.0 + stratum).astype(np.float32), stratum.astype(np.int64)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=60), st.integers(2, 40))
def test_the_inverse_of_the_cdf_gives_back_every_value_of_the_table(values: list[float], points: int) -> None:
    table = StratifiedQuantiles(1, points, min_rows=1).fit(
        np.array(values, np.float32), np.zeros(len(values), np.int64)
    )
    at = table.table[0]
    zero = torch.zeros(points, dtype=torch.int64)
    torch.testing.assert_close(table.inverse(table.cdf(at, zero), zero), at, rtol=1e-4, atol=1e-3)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=60))
def test_a_larger_value_never_has_a_lower_rank(values: list[float]) -> None:
    table = StratifiedQuantiles(1, min_rows=1).fit(
        np.array(values, np.float32), np.zeros(len(values), np.int64)
    )
    at = torch.linspace(-1.0, 1.1e4, 300)
    share = table.cdf(at, torch.zeros(300, dtype=torch.int64))
    assert bool((share.diff() >= -1e-6).all())
    assert 0 <= float(share.min()) <= float(share.max()) <= 1


def test_ranks_are_uniform_within_each_stratum() -> None:
    values, stratum = values_in_strata()
    share = StratifiedQuantiles(5).fit(values, stratum).cdf(*map(torch.from_numpy, (values, stratum)))
    for s in range(5):
        assert stats.kstest(share.numpy()[stratum == s], "uniform").statistic < 0.02


def test_a_thin_stratum_answers_as_its_parent_and_a_thick_one_does_not() -> None:
    values, stratum = values_in_strata()
    stratum[:10] = 5
    table = StratifiedQuantiles(6, min_rows=50).fit(values, stratum)
    threshold = table.quantile(0.5)
    assert float(threshold[5]) == pytest.approx(float(np.median(values)), rel=1e-5)
    assert float(threshold[4]) == pytest.approx(float(np.median(values[stratum == 4])), rel=1e-5)
    assert float(threshold[4]) > float(threshold[5])
    assert float(StratifiedQuantiles(6, min_rows=5).fit(values, stratum).quantile(0.5)[5]) == pytest.approx(
        float(np.median(values[stratum == 5])), rel=1e-5
    )


def test_a_row_that_belongs_to_no_stratum_counts_among_all_rows_only() -> None:
    values, stratum = values_in_strata()
    stratum[stratum == 4] = 5
    table = StratifiedQuantiles(5).fit(values, stratum)
    assert table.count.tolist() == [*np.bincount(stratum)[:4].tolist(), 0, 4000]
    assert table.quantile(0.5)[[4, 5]].tolist() == pytest.approx([float(np.median(values))] * 2)


def test_with_one_point_a_row_the_rank_is_the_share_at_or_below() -> None:
    values = np.array([3, 1, 2, 2, 9], np.float32)
    table = StratifiedQuantiles(1, [i / 5 for i in range(6)], exact=True, min_rows=1).fit(
        values, np.zeros(5, np.int64)
    )
    got = table.rank(torch.from_numpy(values), torch.zeros(5, dtype=torch.int64))
    assert got.tolist() == pytest.approx([0.8, 0.2, 0.6, 0.6, 1.0])
    beyond = table.rank(torch.tensor([-1.0, 1.5, 99.0]), torch.zeros(3, dtype=torch.int64))
    assert beyond.tolist() == pytest.approx([0.2, 0.4, 1.0])


def test_two_halves_merged_are_the_whole_in_either_order() -> None:
    values, stratum = values_in_strata()
    whole = StratifiedQuantiles(5).fit(values, stratum)
    a = StratifiedQuantiles(5).fit(values[:1000], stratum[:1000])
    b = StratifiedQuantiles(5).fit(values[1000:], stratum[1000:])
    merged, other_way = a.merge(b), b.merge(a)
    torch.testing.assert_close(merged.table, other_way.table)
    assert merged.count.tolist() == whole.count.tolist()
    everything = [torch.from_numpy(values), torch.from_numpy(stratum)]
    assert float((merged.cdf(*everything) - whole.cdf(*everything)).abs().max()) < 0.02
    # The parts are what they were.
    torch.testing.assert_close(a.table, StratifiedQuantiles(5).fit(values[:1000], stratum[:1000]).table)


def test_what_many_rows_tie_at_is_merged_as_the_jump_it_is() -> None:
    between = np.linspace(0, 1, 500, dtype=np.float32)
    one_stratum = np.zeros(500, np.int64)
    a, b = (
        StratifiedQuantiles(1).fit(values, one_stratum) for values in (between, np.full(500, 0.5, np.float32))
    )
    merged, zero = a.merge(b), torch.zeros(3, dtype=torch.int64)
    got = merged.cdf(torch.tensor([0.25, 0.5, 0.75]), zero)
    assert got.tolist() == pytest.approx([0.125, 0.5, 0.875], abs=0.02)
    assert merged.inverse(torch.tensor([0.3, 0.5, 0.7]), zero).tolist() == [0.5] * 3


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 2.5, 7.0, 1e4]), min_size=1, max_size=60),
    st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=60),
    st.booleans(),
)
def test_a_merged_table_rises_lies_between_both_and_commutes(
    some: list[float], others: list[float], exact: bool
) -> None:
    a, b = (
        StratifiedQuantiles(1, 11, exact=exact, min_rows=1).fit(
            np.array(values, np.float32), np.zeros(len(values), np.int64)
        )
        for values in (some, others)
    )
    merged = a.merge(b).table[0]
    assert bool((merged.diff() >= 0).all())
    low, high = torch.minimum(a.table[0], b.table[0]), torch.maximum(a.table[0], b.table[0])
    assert bool(((merged >= low - 1e-4 * high) & (merged <= high + 1e-4 * high)).all())
    assert merged.equal(b.merge(a).table[0])
    if exact:
        assert set(merged.tolist()) <= set(np.array(some + others, np.float32).tolist())


def test_thin_strata_are_thick_together() -> None:
    random = np.random.default_rng(0)
    parts = []
    for _ in range(2):
        values = np.concatenate([random.random(200), 10 + random.random(30)]).astype(np.float32)
        parts.append(StratifiedQuantiles(2, min_rows=50).fit(values, np.repeat([0, 1], [200, 30])))
    assert float(parts[0].quantile(0.5)[1]) < 1
    assert 10 < float(parts[0].merge(parts[1]).quantile(0.5)[1]) < 11


def test_merging_with_an_empty_stratum_changes_nothing_in_it() -> None:
    values = np.arange(100, dtype=np.float32)
    a = StratifiedQuantiles(2, min_rows=1).fit(values, np.zeros(100, np.int64))
    b = StratifiedQuantiles(2, min_rows=1).fit(values, np.ones(100, np.int64))
    torch.testing.assert_close(a.merge(b).table[0], a.table[0])
    torch.testing.assert_close(a.merge(b).table[1], b.table[1])


def test_tables_of_different_shapes_are_not_merged() -> None:
    with pytest.raises(ValueError, match="nothing in common"):
        StratifiedQuantiles(2).merge(StratifiedQuantiles(3))
    with pytest.raises(ValueError, match="cannot be merged"):
        StratifiedMoments(2).merge(StratifiedMoments(3))


def test_a_table_written_and_read_back_answers_alike() -> None:
    values, stratum = values_in_strata()
    fitted = StratifiedQuantiles(5).fit(values, stratum)
    back = StratifiedQuantiles(2, 7)  # made smaller than what is read back, as by `restore` of a run
    restore(back, copy.deepcopy(fitted.state_dict()))
    everything = [torch.from_numpy(values), torch.from_numpy(stratum)]
    torch.testing.assert_close(back.cdf(*everything), fitted.cdf(*everything), rtol=0, atol=0)
    torch.testing.assert_close(back.merge(back).table, fitted.table, rtol=1e-5, atol=1e-5)


def test_durations_never_seen_belong_to_the_outer_groups() -> None:
    groups = DurationGroups(4).fit(np.linspace(10, 20, 101, dtype=np.float32))
    assert groups(torch.tensor([0.0, 9.9, 12.5, 20.1, 1e9])).tolist() == [0, 0, 1, 3, 3]


@pytest.mark.slow
def test_answers_in_onnx_as_in_torch_for_no_rows_too(tmp_path: Path) -> None:
    values, stratum = values_in_strata()
    inputs = {"values": torch.from_numpy(values), "stratum": torch.from_numpy(stratum)}
    assert_onnx_agrees_with_torch(Tables(values, stratum), inputs, tmp_path, atol=1e-5)


class Tables(nn.Module):
    """Everything that a graph may ask of strata, side by side."""

    def __init__(self, values: F32, stratum: I64) -> None:
        super().__init__()
        self.quantiles = StratifiedQuantiles(6).fit(values, stratum)  # the sixth is empty
        self.moments = StratifiedMoments(6).fit(values, stratum)
        self.groups = DurationGroups(6).fit(values)

    def forward(self, value_N: Tensor, stratum_N: Tensor) -> Tensor:
        group_N = self.groups(value_N)
        share_N = self.quantiles.cdf(value_N, stratum_N)
        return torch.stack(
            [
                share_N,
                self.quantiles.rank(value_N, group_N),
                self.quantiles.inverse(share_N, group_N),
                self.moments.z(value_N, stratum_N),
                group_N.float(),
            ]
        )


def test_within_a_stratum_z_has_mean_0_and_deviation_1() -> None:
    values, stratum = values_in_strata()
    z = StratifiedMoments(5).fit(values, stratum).z(*map(torch.from_numpy, (values, stratum))).numpy()
    for s in range(5):
        assert z[stratum == s].mean() == pytest.approx(0, abs=1e-5)
        assert z[stratum == s].std() == pytest.approx(1, abs=1e-5)


def test_z_is_0_where_nothing_varies_and_the_parents_where_rows_are_few() -> None:
    values = np.array([5, 5, 5, 1, 9], np.float32)
    moments = StratifiedMoments(2, min_rows=3).fit(values, np.array([0, 0, 0, 1, 1]))
    z = moments.z(torch.tensor([5.0, 7.0, 5.0]), torch.tensor([0, 0, 1]))
    assert z.tolist() == pytest.approx([0, 0, (5 - values.mean()) / values.std()], abs=1e-6)


def test_moments_merge_exactly() -> None:
    values, stratum = values_in_strata()
    whole = StratifiedMoments(5).fit(values, stratum)
    halves = [
        StratifiedMoments(5).fit(values[part], stratum[part]) for part in np.array_split(np.arange(4000), 3)
    ]
    merged = halves[0].merge(halves[1]).merge(halves[2])
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(merged.square, whole.square, rtol=1e-9, atol=1e-9)


def test_nothing_is_read_off_no_rows() -> None:
    none, nowhere = np.zeros(0, np.float32), np.zeros(0, np.int64)
    with pytest.raises(BadInput, match="none"):
        StratifiedQuantiles(2).fit(none, nowhere)
    with pytest.raises(BadInput, match="none"):
        StratifiedMoments(2).fit(none, nowhere)
    with pytest.raises(ValueError, match="rise from 0 to 1"):
        StratifiedQuantiles(1, [0.0, 0.7, 0.5, 1.0])
    for wrong in (DurationGroups, StratifiedQuantiles, StratifiedMoments):
        with pytest.raises(ValueError, match="at least 1"):
            wrong(0)
