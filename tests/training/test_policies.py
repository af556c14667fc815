"""Long-term value learned from logs: the parts by hand, the whole where the best policy is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from models.errors import BadInput
from models.schema import SESSION_GAP_MS
from training.data import SyntheticConfig, simulate_log
from training.experiments.policies.tabular import TabularProcess
from training.policies import (
    QLearningConfig,
    QNetwork,
    Steps,
    conservative_loss,
    dense_head_bytes,
    dense_network,
    doubly_robust_return,
    fit_dense_dqn,
    fit_q,
    fitted_q_evaluation,
    greedy,
    history_states,
    log_steps,
    read_steps,
    retrace,
    returns,
    session_numbers,
    write_steps,
)

QUICK = QLearningConfig(updates=200, average=0.9, batch=192, learning_rate=6e-3)


def logged(process: TabularProcess, folder: Path, seed: int, sessions: int = 3000) -> Path:
    """Sessions of a log that is a quarter of the time as good as can be."""
    policy = 0.75 * process.uniform() + 0.25 * process.best()
    write_steps(folder, iter([process.simulate(policy, sessions, seed)]))
    return folder


def few_steps(**changes: np.ndarray) -> Steps:
    """Two users: sessions of two and one exposures, and of one."""
    steps = Steps(
        user=np.array([0, 0, 0, 1]),
        session=np.array([0, 0, 1, 2]),
        state=np.arange(8, dtype=np.float32).reshape(4, 2),
        candidates=np.array([[0, 1], [1, 2], [2, 0], [0, 2]]),
        action=np.array([0, 1, 0, 1]),
        reward=np.array([1.0, 2.0, 4.0, 8.0], np.float32),
        propensity=np.full(4, 0.5, np.float32),
    )
    return steps._replace(**changes)


# --- the whole, where the truth is known


@pytest.mark.parametrize("seed", range(5))
def test_it_comes_near_the_best_policy_where_the_next_reward_misleads(tmp_path: Path, seed: int) -> None:
    process = TabularProcess.chain(seed)
    best = process.value(process.best())
    assert process.value(process.myopic()) <= 0.85 * best
    network = fit_q(logged(process, tmp_path / "steps", seed), process.vectors(), QUICK, seed=seed)
    assert process.value(process.table(greedy(network))) >= 0.95 * best


@pytest.mark.parametrize("seed", range(2))
def test_both_estimates_are_near_the_true_value(tmp_path: Path, seed: int) -> None:
    process = TabularProcess.chain(seed)
    wanted = 0.5 * process.uniform() + 0.5 * process.best()
    policy, truth = process.as_policy(wanted), process.value(wanted)
    folder = logged(process, tmp_path / "fitted", seed)
    network = fitted_q_evaluation(folder, process.vectors(), policy, QUICK, seed=seed)
    others = next(read_steps(logged(process, tmp_path / "others", seed + 100)))
    found = doubly_robust_return(others, network, policy, None, QUICK)
    assert found.overlap.refusal is None
    assert found.fitted.value == pytest.approx(truth, rel=0.05)
    assert found.doubly_robust.value == pytest.approx(truth, rel=0.05)


def test_without_a_discount_it_is_the_policy_of_the_next_reward(tmp_path: Path) -> None:
    process = TabularProcess.chain(0, states=5)
    config = QUICK.model_copy(update={"gamma": 0.0, "conservative": 0.0, "updates": 150})
    network = fit_q(logged(process, tmp_path / "steps", 0, 1000), process.vectors(), config)
    np.testing.assert_array_equal(process.table(greedy(network))[0], process.myopic()[0])


def test_value_iteration_finds_what_no_other_policy_beats() -> None:
    process = TabularProcess.chain(3, states=6)
    best = process.best()
    for state in range(6):
        for video in range(4):
            other = best.copy()
            other[state] = np.eye(4)[video]
            assert process.value(other) <= process.value(best) + 1e-9


def test_simulated_sessions_earn_what_the_equations_say() -> None:
    process = TabularProcess.chain(1)
    steps = process.simulate(process.uniform(), 5000, 0)
    first = np.append(True, steps.user[1:] != steps.user[:-1])
    mean = returns(steps, QLearningConfig())[first].mean()
    assert mean == pytest.approx(process.value(process.uniform()), rel=0.03)


# --- the parts


def test_a_return_ends_with_the_session_or_counts_the_next_one_less() -> None:
    steps = few_steps()
    alone = returns(steps, QLearningConfig(gamma=0.5))
    np.testing.assert_allclose(alone, [1 + 0.5 * 2, 2, 4, 8])
    across = returns(steps, QLearningConfig(gamma=0.5, next_session=0.5))
    np.testing.assert_allclose(across, [1 + 0.5 * 3, 2 + 0.25 * 4, 4, 8])


def random_windows() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    names = ("reward_BW", "discount_BW", "value_BW", "logged_BW", "ratio_BW")
    return {name: torch.rand(7, 4, generator=generator) for name in names}


def test_with_limit_zero_a_return_has_one_step() -> None:
    found = random_windows()
    one_step = found["reward_BW"][:, 0] + found["discount_BW"][:, 0] * found["value_BW"][:, 1]
    torch.testing.assert_close(retrace(**found, limit=0.0), one_step)


def test_of_the_logs_own_policy_without_branches_a_return_is_the_sum_of_rewards() -> None:
    found = random_windows()
    found["value_BW"] = found["logged_BW"]
    found["ratio_BW"] = torch.ones(7, 4)
    reward, d = found["reward_BW"], found["discount_BW"]
    rest = reward[:, 2] + d[:, 2] * found["value_BW"][:, 3]
    expected = reward[:, 0] + d[:, 0] * (reward[:, 1] + d[:, 1] * rest)
    torch.testing.assert_close(retrace(**found, limit=1.0), expected)


def test_the_conservative_loss_lowers_what_was_not_shown() -> None:
    value = torch.tensor([[1.0, 3.0]], requires_grad=True)
    conservative_loss(value, value[:, 0]).backward()  # type: ignore[no-untyped-call]
    assert value.grad is not None
    assert value.grad[0, 0] < 0 < value.grad[0, 1]


def test_estimates_of_the_logs_own_policy_are_what_it_earned() -> None:
    process = TabularProcess.chain(0, states=4)
    uniform = process.uniform()
    steps = process.simulate(uniform, 400, 0)
    network = fit_untrained(process)
    found = doubly_robust_return(
        steps, network, process.as_policy(uniform), None, QLearningConfig(), limit=1e9
    )
    first = np.append(True, steps.user[1:] != steps.user[:-1])
    earned = returns(steps, QLearningConfig())[first]
    np.testing.assert_allclose(found.overlap.max_weight, 1.0)
    assert found.doubly_robust.value == pytest.approx(earned.mean(), abs=0.1)


def fit_untrained(process: TabularProcess) -> QNetwork:
    torch.manual_seed(0)
    return QNetwork(process.states, torch.from_numpy(process.vectors()), hidden=4, scale=1.0)


def test_steps_come_back_block_by_block(tmp_path: Path) -> None:
    steps = few_steps()
    halves = [steps.take(np.arange(3)), steps.take(np.arange(3, 4))]
    write_steps(tmp_path / "steps", iter(halves))
    for written, found in zip(halves, read_steps(tmp_path / "steps"), strict=True):
        for name in Steps._fields:
            np.testing.assert_array_equal(getattr(found, name), getattr(written, name))


def test_a_folder_without_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no steps"):
        next(read_steps(tmp_path))


def test_returns_of_several_steps_need_propensities_or_a_model_of_them(tmp_path: Path) -> None:
    unknown = few_steps(propensity=np.full(4, np.nan, np.float32))
    write_steps(tmp_path / "steps", iter([unknown]))
    with pytest.raises(BadInput, match="no propensities"):
        fit_q(tmp_path / "steps", np.eye(3, dtype=np.float32), QLearningConfig(self_supervised=0.0))


# --- the dense layer of the original


def test_a_dense_layer_over_millions_of_videos_is_refused_with_its_bytes_at_once() -> None:
    with pytest.raises(BadInput, match="3,565,881,648 bytes"):
        dense_network(32, 4_369_953)
    assert dense_head_bytes(4_369_953) == 4_369_953 * 51 * 4 * 4
    with pytest.raises(BadInput):
        dense_network(32, 10**15)  # which no machine could allocate first


def test_a_dense_layer_over_few_videos_learns(tmp_path: Path) -> None:
    process = TabularProcess.chain(0, states=5)
    policy = fit_dense_dqn(logged(process, tmp_path / "steps", 0, 500), process.videos, QUICK, updates=300)
    assert process.value(process.table(policy)) > process.value(process.myopic())


# --- a prepared log


def test_sessions_are_cut_by_silence_and_by_user() -> None:
    user = np.array([0, 0, 0, 1])
    time_ms = np.array([0, SESSION_GAP_MS, 2 * SESSION_GAP_MS + 1, 2 * SESSION_GAP_MS + 2])
    np.testing.assert_array_equal(session_numbers(user, time_ms), [0, 0, 1, 2])


def test_any_log_becomes_decisions(tmp_path: Path) -> None:
    dataset = simulate_log(SyntheticConfig(users=40, videos=60, exposures=1000)).dataset()
    log = dataset.interactions(dataset.vocabulary())
    rows = np.arange(len(log))
    vectors = np.random.default_rng(0).normal(size=(70, 3)).astype(np.float32)
    blocks = list(log_steps(log, rows, log.watch_time_s, vectors, candidates=5, block=300))
    assert len(blocks) > 1
    users = [set(block.user) for block in blocks]
    assert sum(map(len, users)) == len(set(log.user))
    shown_videos = np.concatenate([b.candidates[np.arange(len(b.action)), b.action] for b in blocks])
    np.testing.assert_array_equal(shown_videos, log.ids[:, 0])
    np.testing.assert_array_equal(np.concatenate([b.reward for b in blocks]), log.watch_time_s)
    assert all(np.isfinite(block.state).all() for block in blocks)
    write_steps(tmp_path / "steps", iter(blocks))
    network = fit_q(tmp_path / "steps", vectors, QLearningConfig(updates=5))
    value = network(torch.from_numpy(blocks[0].state), torch.from_numpy(blocks[0].candidates)).value
    assert bool(value.isfinite().all())


def test_a_state_does_not_know_its_own_exposure() -> None:
    dataset = simulate_log(SyntheticConfig(users=10, videos=30, exposures=100)).dataset()
    log = dataset.interactions(dataset.vocabulary())
    vectors = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    rows = np.arange(len(log))
    session = session_numbers(log.user, log.timestamp_ms)
    before = history_states(log, rows, session, vectors, length=10)
    last = np.flatnonzero(np.append(log.user[1:] != log.user[:-1], True))
    log.feedback[last] += 100
    log.ids[last] = 1
    np.testing.assert_array_equal(history_states(log, rows, session, vectors, length=10), before)
