"""Many objectives from one encoder: what each learns from, what they say, and that the graph says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torchjd.aggregation import MeanWeighting

from models.arrays import F32
from models.metrics import auc, ece
from models.runtime import Bundle
from tests.training._builders import (
    Spread,
    assert_graph_answers_as_torch,
    export_ranker,
    log_of,
    ranker_request,
)
from training.balance import GradCraft
from training.data import Interactions, SyntheticConfig, simulate_log
from training.encoders import FeedbackEncoder, FeedbackEncoderConfig, inputs_for
from training.evaluation.predict import predict_objectives, run_torch
from training.labels import Scale
from training.rankers import (
    INTEREST,
    NAMES,
    OUTCOMES,
    WATCH_TIME,
    MultiObjectiveRanker,
    Platt,
    outcomes,
)
from training.train.calibration import calibrate
from training.train.fusion import search_fusion_weights
from training.train.rankers import TrainerConfig, best_epoch_count, fit_objectives, targets
from training.watch_time import VR, VRConfig

SMALL = FeedbackEncoderConfig(width=16, token=8, heads=2, hidden=16, dropout=0.0)


def made_up(objectives: tuple[str, ...] = (WATCH_TIME, INTEREST, *NAMES)) -> MultiObjectiveRanker:
    """Unfitted, with tables of five rows."""
    torch.manual_seed(0)
    log = log_of([0, 0, 1, 1, 1], [1, 2, 1, 2, 3])
    encoder = FeedbackEncoder((9, 5, 4, 4), 2, (4,), SMALL)
    encoder.fit_tables(log, np.arange(5))
    head = Spread(SMALL.width).fit_tables(log, seed=0)
    return MultiObjectiveRanker(encoder, head, Scale().fit(log.watch_time_s), objectives)


# --- what happened


@pytest.mark.parametrize(
    ("watched", "duration", "happened"),
    [
        (0.0, 60.0, {"skip"}),
        (3.0, 60.0, set()),
        (7.1, 60.0, {"effective_view"}),
        (18.0, 60.0, {"effective_view", "long_view"}),
        (60.0, 60.0, {"effective_view", "long_view", "complete_view"}),
        (2.0, 2.0, {"effective_view", "long_view", "complete_view"}),
        (1.9, 2.0, {"skip"}),
    ],
)
def test_views_and_skips_are_counted_as_the_platform_counts_them(
    watched: float, duration: float, happened: set[str]
) -> None:
    row = np.array([[watched, duration, 0, 0, 0, 0, 0, 0]], np.float32)
    found = dict(zip(NAMES, outcomes(row)[0], strict=True))
    assert {name for name, value in found.items() if value} == happened


def test_either_of_comment_and_forward_is_one_objective() -> None:
    row = np.zeros((3, 8), np.float32)
    row[:, 1] = 60
    row[0, 4] = row[1, 5] = 1
    assert outcomes(row)[:, NAMES.index("comment_or_forward")].tolist() == [1, 1, 0]


# --- probabilities


@pytest.mark.parametrize("position", [0, 1, 2])
def test_probabilities_are_the_same_wherever_watch_time_stands(position: int) -> None:
    names = ["like", "skip"]
    ranker = made_up((*names[:position], WATCH_TIME, *names[position:]))
    assert ranker.likely == tuple(names)
    x = ranker_request(1, 4, 5)
    probability = ranker.eval().predict(x).probability
    state, _ = ranker.encoder(x)
    shift = ranker.aversion.shift(ranker.encoder.rows(x)[2]).reshape(1, 4, 2)
    expected = torch.sigmoid(state @ ranker.logit.weight.T + ranker.logit.bias + shift)
    torch.testing.assert_close(probability, expected)


# --- the graph


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[MultiObjectiveRanker, Bundle]:
    ranker = made_up()
    ranker.platt.slope.uniform_(0.5, 2.0)
    ranker.platt.shift.uniform_(-1.0, 1.0)
    weights = {"watch_time": 1.0, "like": 0.5, "skip": -0.5}
    return ranker, export_ranker(ranker, tmp_path_factory.mktemp("bundles"), weights=weights)


@pytest.mark.slow
def test_the_bundle_names_every_objective_and_its_unit(exported: tuple[MultiObjectiveRanker, Bundle]) -> None:
    manifest = exported[1].manifest
    assert manifest.objectives == (WATCH_TIME, INTEREST, *NAMES)
    outputs = {spec.name: (spec.shape, spec.unit) for spec in manifest.ranker.outputs}
    assert outputs["objectives"] == (("B", "N", 2 + len(NAMES)), "value")
    assert outputs["watch_time_s"] == (("B", "N"), "s")


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 1, 100])
@pytest.mark.parametrize(("users", "candidates"), [(1, 0), (1, 1), (3, 5)])
def test_the_graph_answers_as_torch_calibration_included(
    exported: tuple[MultiObjectiveRanker, Bundle], users: int, candidates: int, steps: int
) -> None:
    ranker, bundle = exported
    assert_graph_answers_as_torch(bundle, ranker, users, candidates, steps)


# --- fitted on a simulated log


class Planted:
    """A log of one taste, its rows, and a ranker fitted on its first days."""

    def __init__(self) -> None:
        rates = {"like": 0.08, "follow": 0.03, "comment": 0.03, "forward": 0.03, "hate": 0.03}
        simulated = simulate_log(
            SyntheticConfig(
                users=200, videos=200, exposures=10_000, tags=6, authors=20, policy=0.0, latent=3,
                interest_scale=4.0, rates={**rates, "profile_enter": 0.05},
            ),
            seed=5,
        )  # fmt: skip
        dataset = simulated.dataset()
        vocabulary = dataset.vocabulary(None, 1)
        self.log: Interactions = dataset.interactions(vocabulary)
        time = self.log.timestamp_ms
        first, last = np.quantile(time, 0.75), np.quantile(time, 0.87)
        self.train = np.flatnonzero(time < first)
        self.stop = np.flatnonzero((time >= first) & (time < last))
        self.test = np.flatnonzero(time >= last)
        torch.manual_seed(0)
        ids = (vocabulary.size("video_id"), vocabulary.size("author_id"), vocabulary.size("tag"))
        categories = tuple(vocabulary.size(f"profile.{name}") for name in dataset.profile_categories)
        encoder = FeedbackEncoder(
            (*ids, vocabulary.size("tab")), len(dataset.profile_numbers), categories, SMALL
        )
        head = VR(SMALL.width, VRConfig()).fit_tables(self.log.take(self.train), seed=0)
        self.ranker = MultiObjectiveRanker(
            encoder,
            head,
            Scale().fit(self.log.watch_time_s),
            (WATCH_TIME, *NAMES),
        )
        config = TrainerConfig(epochs=3, batch_size=512, learning_rate=1e-2, sequence_length=20)
        self.epochs = fit_objectives(
            self.ranker, self.log, self.train, config, GradCraft(), seed=0, stop_rows=self.stop
        )
        calibrate(self.ranker, self.log, self.stop, 20)
        found = predict_objectives(self.ranker, self.log, self.test, 20)
        self.found = {name: found.probability[:, t] for t, name in enumerate(self.ranker.likely)}
        assert found.seconds is not None
        self.seconds: F32 = found.seconds


@pytest.fixture(scope="module")
def fitted() -> Planted:
    return Planted()


@pytest.mark.slow
def test_every_objective_is_learned_beside_the_others(fitted: Planted) -> None:
    happened = dict(zip(NAMES, outcomes(fitted.log.feedback[fitted.test]).T, strict=True))
    found = {name: auc(happened[name], score) for name, score in fitted.found.items()}
    assert all(value is not None and value > 0.6 for value in found.values()), found


@pytest.mark.slow
def test_a_skip_goes_against_a_long_view(fitted: Planted) -> None:
    assert stats.spearmanr(fitted.found["skip"], fitted.found["long_view"]).statistic < -0.5
    assert stats.spearmanr(fitted.found["hate"], fitted.found["like"]).statistic < 0
    assert stats.spearmanr(fitted.found["effective_view"], fitted.seconds).statistic > 0.5


@pytest.mark.slow
def test_probabilities_mean_what_they_say(fitted: Planted) -> None:
    happened = dict(zip(NAMES, outcomes(fitted.log.feedback[fitted.test]).T, strict=True))
    for name, probability in fitted.found.items():
        # Five bins of 260 rows each: a share of one half strays by .025 by itself.
        off = ece(happened[name], probability, bins=5)
        assert off is not None
        assert off < 0.07, name


@pytest.mark.slow
def test_calibration_changes_no_order(fitted: Planted) -> None:
    ranker = fitted.ranker
    slope, shift = ranker.platt.slope.clone(), ranker.platt.shift.clone()
    ranker.platt.load_state_dict(Platt(len(ranker.likely)).state_dict())
    raw = predict_objectives(ranker, fitted.log, fitted.test[:300], 20).probability
    ranker.platt.load_state_dict({"slope": slope, "shift": shift})
    for t, name in enumerate(ranker.likely):
        assert stats.spearmanr(raw[:, t], fitted.found[name][:300]).statistic > 0.9999


@pytest.mark.slow
def test_the_epoch_with_the_highest_mean_is_kept(fitted: Planted) -> None:
    kept = fitted.epochs[best_epoch_count(fitted.epochs) - 1]
    assert kept.stop_auc == max(epoch.stop_auc or 0.0 for epoch in fitted.epochs)
    assert set(kept.losses) == {WATCH_TIME, *NAMES}


@pytest.mark.slow
def test_default_weights_count_skips_against_and_cost_neither_seconds_nor_engagement(fitted: Planted) -> None:
    watch = fitted.ranker.scale(torch.from_numpy(fitted.seconds)).numpy()
    weights = search_fusion_weights(fitted.log, fitted.test, {WATCH_TIME: watch, **fitted.found})
    assert set(weights) == {WATCH_TIME, *NAMES}
    assert weights[WATCH_TIME] == 1.0
    assert all((weights[o.name] < 0) if o.side == "negative" else (weights[o.name] >= 0) for o in OUTCOMES)


# --- small things


def test_a_plain_sum_and_torchjds_mean_are_one_descent() -> None:
    """Up to the factor T, which AdamW does not see, and rounding."""
    log = log_of([0] * 40, list(range(40)))
    rows = np.arange(40)
    config = TrainerConfig(epochs=1, batch_size=20, sequence_length=5, weight_decay=0.0)
    made = []
    for balancer in (None, MeanWeighting()):
        ranker = made_up((WATCH_TIME, *NAMES))
        fit_objectives(ranker, log, rows, config, balancer, seed=0)
        made.append(predict_objectives(ranker, log, rows, 5).probability)
    np.testing.assert_allclose(made[0], made[1], atol=2e-2)


def test_interest_needs_its_label() -> None:
    log = log_of([0, 0], [1, 2])
    with pytest.raises(ValueError, match="`label` is needed"):
        targets(made_up(), log, np.arange(2))
    got = targets(made_up(), log, np.arange(2), np.array([0.3, 0.7], np.float32))
    assert got.shape == (2, len(NAMES) + 1)
    np.testing.assert_allclose(got[:, 0], [0.3, 0.7])


@pytest.mark.parametrize("objectives", [(WATCH_TIME,), ("like",), ("skip", WATCH_TIME)])
def test_some_of_the_objectives_are_a_ranker_too(objectives: tuple[str, ...]) -> None:
    ranker, log = made_up(objectives), log_of([0, 0, 1], [1, 2, 1])
    likely = [name for name in objectives if name != WATCH_TIME]
    ranker.start_at(torch.full((len(likely),), 0.25))
    found = predict_objectives(ranker, log, np.arange(3), 5)
    assert found.probability.shape == (3, len(likely))
    assert (found.seconds is not None) == (WATCH_TIME in objectives)


def test_it_predicts_through_the_served_path_what_it_answers_before(tmp_path: Path) -> None:
    ranker, log = made_up().eval(), log_of([0, 0, 1], [1, 2, 1])
    served = run_torch(ranker, log, np.arange(3), 5)
    assert tuple(served.objectives) == ranker.objectives
    with torch.no_grad():
        answers = ranker.predict(inputs_for(log, np.arange(3), 5))
    np.testing.assert_allclose(served.objectives["hate"], answers.probability[:, 0, -1], rtol=1e-6)
