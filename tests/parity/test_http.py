"""What the service answers over HTTP is what torch computes from the same log: 1e-5."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import polars as pl
import pytest
import torch

from models.schema import FLAGS
from models.store import BundleStore
from tests.service.running import running
from training import run
from training.data import Dataset, Interactions, load
from training.labels import LabelMaker
from training.loop import predict
from training.run import Saved

USERS = 6
"""So many users are followed through the service."""


@pytest.fixture(scope="module")
def dataset(synthetic_data: Path) -> Dataset:
    return load(synthetic_data)


@pytest.fixture(scope="module")
def saved(smoke_run: Path) -> Saved:
    return run.read(smoke_run, "final")


@pytest.fixture(scope="module")
def log(dataset: Dataset, saved: Saved) -> Interactions:
    return dataset.interactions(saved.fitted.vocabulary)


@pytest.fixture(scope="module")
def client(smoke_bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with running(smoke_bundles, tmp_path_factory.mktemp("parity")) as service, service.client() as http:
        yield http


def rows_of(dataset: Dataset, user: str) -> list[dict[str, Any]]:
    """A user's exposures as the log has them, oldest first."""
    mine = dataset.log.filter(pl.col("user_id") == user).sort("timestamp_ms", "video_id")
    return mine.to_dicts()


def event(row: dict[str, Any]) -> dict[str, Any]:
    members = ("user_id", "video_id", "timestamp_ms", "watch_time_s", "duration_s", "tab", "author_id", "tag")
    found = {m: row[m] for m in (*members, *FLAGS) if row[m] is not None}
    return {"event_id": f"{row['user_id']}:{row['video_id']}:{row['timestamp_ms']}", **found}


def users_of(dataset: Dataset) -> list[str]:
    """The users with most exposures, above the sequence length too, and a few with the least."""
    counted = dataset.log["user_id"].value_counts(sort=True).sort("count", "user_id")["user_id"].to_list()
    return [*counted[: USERS // 2], *counted[-USERS // 2 :]]


def test_labels_over_http_are_torchs(client: httpx2.Client, dataset: Dataset, saved: Saved) -> None:
    rows = [row for user in users_of(dataset) for row in rows_of(dataset, user)]
    makers: dict[str, LabelMaker] = dict(
        zip(saved.fitted.labeler.names, saved.fitted.labeler.makers, strict=True)  # type: ignore[arg-type]
    )
    got = client.post(
        "/label",
        params={"labels": ",".join(makers), "store": "false"},
        json={"events": [event(row) for row in rows]},
    ).json()
    feedback = torch.tensor(
        [[row[c] for c in ("watch_time_s", "duration_s", *FLAGS)] for row in rows], dtype=torch.float32
    )
    for name, maker in makers.items():
        with torch.no_grad():
            want = maker(feedback).numpy()
        np.testing.assert_allclose([e["labels"][name] for e in got["labels"]], want, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("which", range(USERS))
def test_a_slate_over_http_is_torchs(
    client: httpx2.Client, dataset: Dataset, saved: Saved, log: Interactions, which: int
) -> None:
    user = users_of(dataset)[which]
    *before, last = rows_of(dataset, user)
    profile = {
        name: value
        for name, value in dataset.tables.users.filter(pl.col("user_id") == user).to_dicts()[0].items()
        if name != "user_id" and value is not None
    }
    assert client.put("/users", json=[{"user_id": user, "profile": profile}]).status_code == 200
    if before:
        answer = client.post("/label", json={"events": [event(row) for row in before]})
        assert answer.json()["accepted"] == len(before), answer.text
    candidate = {m: last[m] for m in ("video_id", "duration_s", "author_id", "tag") if last[m] is not None}
    slate = client.post(
        "/rerank",
        json={
            "user_id": user,
            "timestamp_ms": last["timestamp_ms"],
            "tab": last["tab"],
            "candidates": [candidate],
        },
    ).json()
    assert slate["history_length"] == min(len(before), saved.config.loop.sequence_length)
    row = np.flatnonzero(log.user == log.user_ids.index(user))[-1:].astype(np.int64)
    want = predict(saved.fitted.ranker, log, row, saved.config.loop.sequence_length)
    (item,) = slate["items"]
    assert item["watch_time_s"] == pytest.approx(float(want.watch_time_s[0]), rel=1e-5, abs=1e-5)
    assert item["objectives"]["interest"] == pytest.approx(float(want.interest[0]), abs=1e-5)
    assert item["objectives"]["watch_time"] == pytest.approx(float(want.watch_time[0]), abs=1e-5)


def test_the_version_is_the_promoted_one(client: httpx2.Client, smoke_bundles: Path) -> None:
    assert client.get("/v1/models").json()["active"] == BundleStore(smoke_bundles).current()
