"""What the service answers over HTTP is what torch computes from the same log: 1e-5."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import polars as pl
import pytest

from models.schema import FLAGS
from models.store import BundleStore
from tests.conftest import run_ok
from tests.service.running import running
from training.data import Dataset, Interactions, load
from training.evaluation.predict import run_torch
from training.labels import LabelMaker, ProgressViewByGroup, labels_of
from training.train import run_folder as run
from training.train.run_folder import Saved

pytestmark = pytest.mark.slow

USERS = 6
"""So many users are followed through the service."""


@pytest.fixture(scope="module")
def dataset(synthetic_data: Path) -> Dataset:
    return load(synthetic_data)


@pytest.fixture(scope="module")
def saved(smoke_run: Path) -> Saved:
    return run.read(smoke_run, "release")


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


def test_labels_over_http_are_torchs(
    client: httpx2.Client, dataset: Dataset, saved: Saved, log: Interactions
) -> None:
    """Those that compare within groups of users too: a profile put before is taken into account."""
    followed = users_of(dataset)
    rows = [row for user in followed for row in rows_of(dataset, user)]
    makers: dict[str, LabelMaker] = dict(
        zip(saved.fitted.label_makers.names, saved.fitted.label_makers, strict=True)
    )
    profiles = dataset.tables.users.filter(pl.col("user_id").is_in(followed)).to_dicts()
    put = [
        {"user_id": p.pop("user_id"), "profile": {k: v for k, v in p.items() if v is not None}}
        for p in profiles
    ]
    assert client.put("/users", json=put).status_code == 200
    got = client.post(
        "/label",
        params={"labels": ",".join(makers), "store": "false"},
        json={"events": [event(row) for row in rows]},
    ).json()
    mine = {user: np.flatnonzero(log.user == log.user_ids.index(user)) for user in followed}
    picked = np.concatenate([mine[user] for user in followed])
    for name, maker in makers.items():
        want = labels_of(maker, log)[picked]
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
    want = run_torch(saved.fitted.ranker, log, row, saved.config.loop.sequence_length)
    (item,) = slate["items"]
    assert item["watch_time_s"] == pytest.approx(float(want.watch_time_s[0]), rel=1e-5, abs=1e-5)
    assert item["objectives"]["interest"] == pytest.approx(float(want.objectives["interest"][0]), abs=1e-5)
    assert item["objectives"]["watch_time"] == pytest.approx(
        float(want.objectives["watch_time"][0]), abs=1e-5
    )


def test_the_label_command_writes_what_the_service_answers(
    client: httpx2.Client, dataset: Dataset, synthetic_data: Path, smoke_bundles: Path, tmp_path: Path
) -> None:
    names = "labelcraft,d2q,wtg,dml_wpr,pcr"
    out = tmp_path / "labels.parquet"
    run_ok("label", "--bundle", smoke_bundles, "--data", synthetic_data, "--out", out, "--labels", names)
    written = pl.read_parquet(out)
    columns = [column for name in names.split(",") for column in (name, f"{name}_percentile")]
    assert written.columns == ["user_id", "video_id", "timestamp_ms", *columns]
    assert written["timestamp_ms"].equals(dataset.log["timestamp_ms"])
    rows = [row for user in users_of(dataset) for row in rows_of(dataset, user)]
    got = client.post(
        "/label", params={"labels": names, "store": "false"}, json={"events": [event(row) for row in rows]}
    ).json()
    answered = pl.DataFrame(
        [
            {k: e[k] for k in ("user_id", "video_id")}
            | e["labels"]
            | {f"{name}_percentile": value for name, value in e["percentiles"].items()}
            for e in got["labels"]
        ]
    )
    both = answered.join(written, on=["user_id", "video_id"], suffix="_written", maintain_order="left")
    assert len(both) == len(rows)
    for name in columns:
        np.testing.assert_allclose(both[name], both[f"{name}_written"], rtol=0, atol=1e-5, err_msg=name)


def test_a_label_of_a_group_of_users_follows_the_profile(client: httpx2.Client, saved: Saved) -> None:
    """Two groups with different thresholds, the same watch; that of all rows without a profile."""
    maker = next(m for m in saved.fitted.label_makers.makers if m.name == "dml_lv_u")
    assert isinstance(maker, ProgressViewByGroup)
    *of_group, overall = maker.threshold.tolist()
    names = saved.fitted.vocabulary.fields["profile.segment"]
    low, high = int(np.argmin(of_group)), int(np.argmax(of_group))
    assert of_group[low] < of_group[high]
    between = (of_group[low] + of_group[high]) / 2
    client.put("/users", json=[{"user_id": f"in-{g}", "profile": {"segment": names[g]}} for g in (low, high)])
    events = [
        {"event_id": user, "user_id": user, "video_id": "v", "timestamp_ms": 1_704_067_200_000,
         "watch_time_s": between, "duration_s": 400.0}
        for user in (f"in-{low}", f"in-{high}", "in-none")
    ]  # fmt: skip
    got = client.post("/label", params={"labels": "dml_lv_u", "store": "false"}, json=events).json()
    assert [e["label"] for e in got["labels"]] == [1.0, 0.0, float(between >= overall)]


def test_the_version_is_the_promoted_one(client: httpx2.Client, smoke_bundles: Path) -> None:
    assert client.get("/v1/models").json()["active"] == BundleStore(smoke_bundles).current()
