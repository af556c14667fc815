"""TPM: its tree against one walked by hand."""

# Shape suffixes: N exposures, L leaves, C inner nodes.

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import logsigmoid

from tests.training import _watch_time_asserts as wt
from tests.training._builders import watch_log
from training.watch_time import TPM, TPMConfig
from training.watch_time._tpm import leaf_weights


def fitted(config: TPMConfig | None = None) -> TPM:
    torch.manual_seed(0)
    return TPM(wt.STATE, config).fit_tables(wt.heavy_tailed_log(), seed=0)


@pytest.mark.parametrize("leaves", [0, 1, 12, 31])
def test_leaves_are_a_power_of_two(leaves: int) -> None:
    with pytest.raises(ValidationError, match="leaves"):
        TPMConfig(leaves=leaves)


@pytest.mark.parametrize("leaves", [2, 8, 32])
def test_there_is_a_question_for_each_inner_node(leaves: int) -> None:
    head = TPM(wt.STATE, TPMConfig(leaves=leaves))
    assert head.net(torch.zeros(1, wt.STATE)).shape == (1, leaves - 1)


def test_leaf_weights_sum_to_one() -> None:
    upper = torch.rand(200, 31, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(leaf_weights(upper).sum(-1), torch.ones(200), rtol=0, atol=1e-6)


def walk(leaf: int, leaves: int) -> list[tuple[int, int]]:
    """Nodes and sides from the root to a leaf, by halving the leaves that are left."""
    node, low, high, steps = 0, 0, leaves, []
    while high - low > 1:
        middle = (low + high) // 2
        upper = int(leaf >= middle)
        steps.append((node, upper))
        node = 2 * node + 1 + upper
        low, high = (middle, high) if upper else (low, middle)
    return steps


@pytest.mark.parametrize("leaves", [2, 8, 32])
def test_certain_answers_lead_to_one_leaf(leaves: int) -> None:
    for leaf in range(leaves):
        upper = torch.zeros(1, leaves - 1)
        for node, side in walk(leaf, leaves):
            upper[0, node] = side
        assert leaf_weights(upper).tolist() == [[float(i == leaf) for i in range(leaves)]]


def test_the_path_is_the_one_that_a_walk_takes() -> None:
    head = fitted()
    watch = wt.heavy_tailed_log().watch_time_s
    inner = head.parts.edge_s[1:-1].numpy()
    node, side = head.path(torch.from_numpy(watch))
    for n, w in enumerate(watch):
        steps = walk(int((inner < w).sum()), 32)
        assert list(zip(node[n].tolist(), side[n].tolist(), strict=True)) == steps


def test_leaves_hold_equal_shares_of_train() -> None:
    watch = np.random.default_rng(0).lognormal(2, 1, 3200).astype(np.float32)
    head = TPM(1).fit_tables(watch_log(watch, np.full(3200, 60.0)), seed=0)
    assert torch.bincount(head.parts.part(torch.from_numpy(watch))).tolist() == pytest.approx(
        [100] * 32, abs=1
    )


def test_each_question_is_learned_by_the_rows_that_meet_it() -> None:
    """Cross-entropy at the nodes of a row's own path, no others: the likelihood of its leaf."""
    head = fitted(TPMConfig(mse=0, variance=0))
    state, duration = wt.states(50)
    watch = torch.from_numpy(wt.heavy_tailed_log().watch_time_s[:50])
    logit, leaf = head.net(state).double(), head.parts.part(watch)
    total = torch.zeros((), dtype=torch.float64)
    for n in range(50):
        for node, side in walk(int(leaf[n]), 32):
            total -= logsigmoid(logit[n, node] * (1 if side else -1))
    torch.testing.assert_close(head.loss(state, duration, watch).double(), total / 50 / 31, rtol=1e-5, atol=0)
    likelihood = leaf_weights(logit.sigmoid())[torch.arange(50), leaf].log()
    torch.testing.assert_close(-likelihood.sum(), total)


def test_knowing_nothing_it_learns_the_shares_of_the_leaves() -> None:
    log = wt.heavy_tailed_log()
    config = TPMConfig(hidden=0, leaves=8, mse=0, variance=0)
    head = TPM(1, config).fit_tables(log, seed=0)
    watch, duration = torch.from_numpy(log.watch_time_s), torch.from_numpy(log.duration_s)
    wt.fit_exactly(head, torch.zeros(len(log), 1), duration, watch)
    weight = head.distribution(torch.zeros(1, 1), torch.ones(1))[0][0]
    share = torch.bincount(head.parts.part(watch), minlength=8) / len(log)
    torch.testing.assert_close(weight.detach(), share, rtol=0, atol=1e-3)


def test_the_variance_is_the_distributions_and_none_where_it_is_certain() -> None:
    head = fitted()
    state, duration = wt.states(100)
    weight, ratio = head.distribution(state, duration)
    midpoint = (ratio * duration[:, None]).double()
    mean = (weight * midpoint).sum(-1)
    want = ((weight * midpoint.square()).sum(-1) - mean.square()).sqrt()
    got = head.uncertainty(state, duration)
    assert (got > 0).all()
    torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(head.seconds(state, duration).double(), mean, rtol=1e-5, atol=1e-4)
    one_hot = torch.eye(32)
    assert (head._moments(one_hot)[1] < 1e-3).all()


def test_the_variance_term_is_alive() -> None:
    """Minimising it alone makes a head surer; in the authors' code the term is always 0."""
    state, duration = wt.states(100)
    watch = duration.clamp(max=50)
    head = fitted(TPMConfig(classification=0, mse=0, variance=1.0))
    before = head.uncertainty(state, duration).mean()
    adam = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(20):
        adam.zero_grad()
        head.loss(state, duration, watch).backward()  # type: ignore[no-untyped-call]
        adam.step()
    assert head.uncertainty(state, duration).mean() < 0.7 * before
