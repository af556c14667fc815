"""Logs, encoders and heads that several tests build on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import softplus

from models.manifest import INTERPOLATED, Training
from models.runtime import Bundle
from models.vocabulary import FIRST, UNKNOWN, Vocabulary
from training.data import Interactions
from training.encoders import DIN, DinConfig, FeedbackEncoder, FeedbackEncoderConfig, RankerInputs
from training.export.bundle import export
from training.export.synthetic_inputs import SyntheticInputs
from training.labels import PCR, LabelMaker, LabelMakers
from training.rankers import Ranker
from training.watch_time import Prediction, mixture_crps


def log_of(user: list[int], time: list[int], seed: int = 0) -> Interactions:
    """A small log: made-up ids and feedback, real users and times."""
    random = np.random.default_rng(seed)
    n = len(user)
    ids = np.stack([random.integers(2, 9, n), random.integers(1, 5, n), random.integers(1, 4, n)], 1)
    ids = np.c_[ids, random.integers(2, 4, n)].astype(np.int64)
    u, t = np.array(user, np.int64), np.array(time, np.int64)
    order = np.lexsort((ids[:, 0], t, u))
    feedback = np.zeros((n, 8), np.float32)
    feedback[:, 1] = random.uniform(3, 200, n)
    feedback[:, 0] = feedback[:, 1] * random.choice([0.0, 0.02, 0.5, 1.0, 2.0], n)
    feedback[:, 2:] = random.random((n, 6)) < 0.2
    users = max(user, default=-1) + 1
    earlier = np.random.default_rng([seed, 1])
    known = np.arange(4) >= earlier.integers(0, 5, users)[:, None]
    return Interactions(
        user=u[order],
        ids=ids[order],
        timestamp_ms=t[order],
        feedback=feedback,
        user_ids=tuple(f"u{i}" for i in range(users)),
        profile=random.uniform(0, 100, (users, 2)).astype(np.float32),
        profile_ids=random.integers(1, 4, (users, 1)).astype(np.int64),
        history_ids=np.where(known, earlier.integers(1, 9, (users, 4)), 0),
        history_feedback=(known[:, :, None] & (earlier.random((users, 4, 2)) < 0.5)).astype(np.float32),
    )


logs = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
        st.lists(st.integers(0, 30), min_size=n, max_size=n),
        st.integers(0, 100),
    )
)


def liked_and_hated(rows: int = 400, users: int = 20, seed: int = 0) -> pl.DataFrame:
    """Rows as `read_likes_hates` takes them; those watched to a larger share are more probably liked."""
    random = np.random.default_rng(seed)
    duration_s, share = random.uniform(5, 100, rows), random.random(rows)
    return pl.DataFrame(
        {
            "user_id": random.integers(0, users, rows),
            "play_time_ms": (1000 * share * duration_s).astype(int),
            "duration_ms": (1000 * duration_s).astype(int),
            "label": (random.random(rows) < share).astype(int),
            "is_follow": random.integers(0, 2, rows),
        }
    )


def watch_log(
    watch_time_s: npt.ArrayLike, duration_s: npt.ArrayLike, explicit: npt.ArrayLike = 0
) -> Interactions:
    """Return one user's exposures, a second apart; `explicit` are likes."""
    watch = np.asarray(watch_time_s, np.float32)
    rows = len(watch)
    feedback = np.zeros((rows, 8), np.float32)
    feedback[:, 0], feedback[:, 1], feedback[:, 2] = watch, duration_s, explicit
    return Interactions(
        user=np.zeros(rows, np.int64),
        ids=np.full((rows, 4), UNKNOWN, np.int64),
        timestamp_ms=np.arange(rows, dtype=np.int64) * 1000,
        feedback=feedback,
        user_ids=("u",),
        profile=np.zeros((1, 0), np.float32),
        profile_ids=np.zeros((1, 0), np.int64),
        history_ids=np.zeros((1, 0), np.int64),
        history_feedback=np.zeros((1, 0, 2), np.float32),
    )


def watched_log(rows: int = 4000, seed: int = 0) -> Interactions:
    """Longer videos are watched longer; some are skipped at 0 s, some loop."""
    rng = np.random.default_rng(seed)
    duration = rng.lognormal(3.3, 0.9, rows).clip(5, 400)
    watch = duration * rng.beta(0.6, 0.8, rows)
    watch[rng.random(rows) < 0.1] = 0.0
    replay = rng.random(rows) < 0.1
    watch[replay] = 2 * duration[replay]
    return watch_log(watch, duration, rng.random(rows) < 0.05)


USERS, TAGS = 30, 5
"""Of `grouped_log`."""


def grouped_log(log: Interactions, seed: int = 0) -> Interactions:
    """The same exposures, of users of three groups and one of none, and of five tags and none.

    Who is of a higher group, and what is of a later tag, is watched longer.
    """
    random = np.random.default_rng(seed)
    n = len(log)
    user = np.sort(random.integers(0, USERS, n))
    group_of = np.array([UNKNOWN, FIRST, FIRST + 1, FIRST + 2])[np.arange(USERS) % 4]
    ids = np.full((n, 4), UNKNOWN, np.int64)
    ids[:, 2] = random.choice([UNKNOWN, *range(FIRST, FIRST + TAGS)], n)
    feedback = log.feedback.copy()
    feedback[:, 0] *= 2.0 ** group_of[user] * 1.5 ** ids[:, 2] / 20
    return replace(
        log,
        user=user,
        ids=ids,
        feedback=feedback,
        user_ids=tuple(f"u{i}" for i in range(USERS)),
        profile=np.zeros((USERS, 0), np.float32),
        profile_ids=np.stack([group_of, np.full(USERS, 9)], axis=1).astype(np.int64),
        history_ids=np.zeros((USERS, 0), np.int64),
        history_feedback=np.zeros((USERS, 0, 2), np.float32),
    )


class Spread(nn.Module):
    """A head as one would add it: a share of the duration, and the train ratios around it."""

    ratio: Tensor

    def __init__(self, state_dim: int) -> None:
        super().__init__()
        self.share = nn.Linear(state_dim, 1)
        self.register_buffer("ratio", torch.zeros(3))

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        ratio = np.quantile(train.watch_time_s / train.duration_s, [0.1, 0.5, 0.9]).astype(np.float32)
        self.ratio.copy_(torch.from_numpy(ratio))
        return self

    def seconds(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        return softplus(self.share(state_ND))[..., 0] * duration_N

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        return (self.seconds(state_ND, duration_N) - watch_time_N).abs().mean() / 30.0

    def distribution(self, state_ND: Tensor, duration_N: Tensor) -> tuple[Tensor, Tensor]:
        ratio = self.ratio.expand(*duration_N.shape, 3)
        return torch.ones_like(ratio) / 3.0, ratio

    def predict(self, state_ND: Tensor, duration_N: Tensor) -> Prediction:
        return Prediction(
            self.seconds(state_ND, duration_N),
            *self.distribution(state_ND, duration_N),
            self.quantiles_s(state_ND, duration_N),
            self.ratio.mean() * duration_N,
            torch.full((*duration_N.shape, 3), 0.25),
        )

    def quantiles_s(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        return self.ratio * duration_N[..., None]

    def crps_s(self, weight_NK: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        return mixture_crps(watch_time_N / duration_N, weight_NK, self.ratio[:1], self.ratio) * duration_N


DIN_SIZES = DinConfig(embedding=3, attention=4, tower=(8, 5))


def din(seed: int = 0) -> DIN:
    torch.manual_seed(seed)
    model = DIN(users=5, videos=20, groups=6, tags=4, config=DIN_SIZES).double()
    for p in model.parameters():  # away from the initial zeros of biases and α
        torch.nn.init.normal_(p, std=0.5)
    return model


def din_ids(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(1, n, shape, generator=g) for n in (20, 6, 4)], -1)


ENCODER_SIZES = (9, 5, 4, 4)


ENCODER_VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "plain": {"tokens": "plain", "interests": "one", "gate": False},
    "full": {"tokens": "full", "interests": "one", "gate": False},
    "apart": {"tokens": "plain", "interests": "apart", "gate": False},
    "gate": {"tokens": "plain", "interests": "one", "gate": True},
    "everything": {"tokens": "full", "interests": "both", "gate": True},
}


def encoder_of(**options: Any) -> FeedbackEncoder:
    """Return a small encoder with every table fitted and no weight at zero."""
    torch.manual_seed(3)
    config = FeedbackEncoderConfig(width=8, token=16, heads=2, hidden=16, **options)
    encoder = FeedbackEncoder(ENCODER_SIZES, 2, (4,), config)
    encoder.fit_tables(log_of([0, 0, 1, 1, 1], [1, 2, 1, 2, 3]), np.arange(5))
    tables = encoder.tables
    for embedding in (tables.video, tables.author, tables.tag, tables.tab):
        torch.nn.init.normal_(embedding.weight)
    with torch.no_grad():
        encoder.attention.null.normal_()
    return encoder.eval()


def ranker_request(users: int, candidates: int, steps: int, seed: int = 0) -> RankerInputs:
    random = torch.Generator().manual_seed(seed)

    def rows(size: int, *shape: int) -> Tensor:
        return torch.randint(UNKNOWN, size, shape, generator=random)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=random)

    def every(*shape: int) -> list[Tensor]:
        return [rows(size, *shape) for size in ENCODER_SIZES]

    feedback = between(0, 60, users, steps, 8)
    feedback[..., 2:] = (feedback[..., 2:] > 50).float()
    return RankerInputs(
        torch.stack(every(users, steps), dim=-1),
        feedback,
        between(0, 1e5, users, steps),
        torch.stack(every(users, candidates)[:3], dim=-1),
        between(3, 300, users, candidates),
        rows(ENCODER_SIZES[3], users, 1),
        between(0, 1000, users, 2),
        rows(4, users, 1),
        rows(ENCODER_SIZES[0], users, steps // 2),
        torch.randint(2, (users, steps // 2, 2), generator=random).float(),
        torch.zeros(users, candidates, 0),
        torch.zeros(users, candidates, 0, dtype=torch.int64),
    )


def export_ranker(ranker: Ranker, folder: Path, *makers: LabelMaker, weights: dict[str, float]) -> Bundle:
    """Export an unfitted run of small tables, and load it as the service does."""
    fields = {"video_id": 7, "author_id": 3, "tag": 2, "tab": 2, "profile.kind": 2}
    fields |= dict.fromkeys(ranker.encoder.video_features.fields, 3)
    training = Training(
        recipe="test", seed=0, dataset="made up", source="", licence="", rows=5, users=2, watermark_ms=3,
        git_commit="", machine="",
    )  # fmt: skip
    exported = export(
        LabelMakers([PCR(), *makers]),
        ranker,
        Vocabulary({name: [str(i) for i in range(n)] for name, n in fields.items()}),
        folder,
        training=training,
        weights=weights,
        sequence_length=100,
        profile_numbers=("one", "two"),
        profile_categories=("kind",),
        signals=ranker.encoder.signals,
        video_features=ranker.encoder.video_features,
    )
    return Bundle.load(exported)


def assert_graph_answers_as_torch(
    bundle: Bundle, ranker: Ranker, users: int, candidates: int, steps: int
) -> None:
    """A bundle of `export_ranker` answers a request of this shape as its ranker does."""
    random = np.random.default_rng([users, candidates, steps])
    own = bundle.manifest.signals, bundle.manifest.video_features
    made = SyntheticInputs(bundle.vocabulary, 2, ("kind",), random, *own)
    request = made.request(users, candidates, steps)
    got = bundle.run_ranker(request)
    with torch.no_grad():
        answers = ranker(*map(torch.from_numpy, request.values()))
    want = {name: tensor.numpy() for name, tensor in answers._asdict().items()}
    assert set(got) == set(want)
    for name, array in want.items():
        assert got[name].shape == array.shape
        near = INTERPOLATED.get(name, 1e-4)
        np.testing.assert_allclose(got[name], array, rtol=near, atol=near, err_msg=name)
        assert np.isfinite(got[name]).all()
