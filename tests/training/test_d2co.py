"""D2Co: where a watch lies between those who skip and those who care."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.training._builders import watch_log
from training.data import Interactions
from training.labels import D2Co
from training.labels._d2co import two_components


def two_groups(rows: int = 2000) -> Interactions:
    """Of 10 s videos 2 s are watched or 8 s, of 100 s videos 10 s or 60 s."""
    rng = np.random.default_rng(0)
    duration = rng.choice([10.0, 100.0], rows)
    care = rng.random(rows) < 0.4
    short = np.where(care, rng.normal(8, 0.5, rows), rng.normal(2, 0.5, rows))
    long = np.where(care, rng.normal(60, 5, rows), rng.normal(10, 4, rows))
    watched = np.where(duration < 50, short, long).clip(0)
    return watch_log(watched, duration)


def label(maker: D2Co, watched: list[float], duration_s: float) -> list[float]:
    feedback = torch.zeros(len(watched), 8)
    feedback[:, 0], feedback[:, 1] = torch.tensor(watched), duration_s
    found: list[float] = maker(feedback).tolist()
    return found


def test_the_planted_groups_are_0_and_1_in_each_duration_group() -> None:
    maker = D2Co(groups=2, window=1).fit(two_groups())
    assert maker.noise.tolist() == pytest.approx([2, 10], rel=0.1)
    assert maker.signal.tolist() == pytest.approx([8, 60], rel=0.05)
    assert label(maker, [0.0, 2.0, 5.0, 8.0, 20.0], 10.0) == pytest.approx([0, 0, 0.5, 1, 1], abs=0.03)
    assert label(maker, [0.0, 10.0, 35.0, 60.0, 99.0], 100.0) == pytest.approx([0, 0, 0.5, 1, 1], abs=0.03)


def test_alpha_bends_the_line_and_0_is_its_limit() -> None:
    straight, bent, nearly = (D2Co(groups=2, window=1, alpha=a).fit(two_groups()) for a in (0, 0.1, 1e-4))
    middle = (float(straight.noise[1]) + float(straight.signal[1])) / 2
    at = np.exp(0.1 * np.array([straight.noise[1], middle, straight.signal[1]], np.float64))
    assert label(bent, [middle], 100.0) == pytest.approx([(at[1] - at[0]) / (at[2] - at[0])], abs=1e-4)
    assert label(nearly, [middle], 100.0) == pytest.approx([0.5], abs=0.01)
    steep = D2Co(groups=2, window=1, alpha=50.0).fit(two_groups())
    assert label(steep, [0.0, middle, 1e4], 100.0) == pytest.approx([0, 0, 1], abs=1e-6)


def test_neighbouring_groups_are_averaged_by_their_rows() -> None:
    rng = np.random.default_rng(0)
    rows = (400, 100, 100)
    of_group = [rng.choice([1.0, 5.0 * (g + 1)], n) for g, n in enumerate(rows)]
    log = watch_log(np.concatenate(of_group), np.repeat([10.0, 20.0, 30.0], rows))
    maker = D2Co(groups=6, window=3).fit(log)
    # Two groups in three hold the same duration, so only the three that have rows count.
    group = maker.groups(torch.tensor([10.0, 20.0, 30.0]))
    assert len(set(group.tolist())) == 3
    apart = [D2Co(groups=1).fit(watch_log(w, [1.0] * len(w))).signal[0] for w in of_group]
    steps = {int(g): (float(m), n) for g, m, n in zip(group, apart, rows, strict=True)}
    for g in steps:
        near = [steps[h] for h in range(g - 1, g + 2) if h in steps]
        want = sum(m * n for m, n in near) / sum(n for _, n in near)
        assert float(maker.signal[g]) == pytest.approx(want, rel=1e-4)


def test_a_thin_group_takes_the_components_of_all_rows() -> None:
    few = watch_log([1.0, 9.0] * 40 + [50.0, 90.0], [10.0] * 80 + [100.0] * 2)
    want = two_components(few.watch_time_s)
    maker = D2Co(groups=50, window=1).fit(few)
    at = int(maker.groups(torch.tensor(100.0)))
    assert (float(maker.noise[at]), float(maker.signal[at])) == pytest.approx(want, rel=1e-5)
    alone = D2Co(groups=50, window=1, min_rows=1).fit(few)
    assert float(alone.noise[at]) == pytest.approx(50)


def test_where_all_watch_alike_nothing_is_above_noise() -> None:
    maker = D2Co().fit(watch_log([5.0] * 100, [10.0] * 100))
    assert label(maker, [0.0, 5.0, 5.1], 10.0) == [0.0, 0.0, 1.0]


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e4, width=32), min_size=1, max_size=40))
def test_the_means_lie_among_the_values_in_order(values: list[float]) -> None:
    found = two_components(np.array(values, np.float32))
    room = 1e-9 * max(values)
    assert min(values) - room <= found.low <= found.high <= max(values) + room


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(ValueError, match="odd"):
        D2Co(window=2)
    with pytest.raises(ValueError, match="`alpha`"):
        D2Co(alpha=-1)
