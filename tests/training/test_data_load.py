"""A `DATA` folder in, columns out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.errors import BadInput
from models.features import (
    FEEDBACK_COLUMNS,
    HISTORY_LENGTH,
    Exposures,
    context_arrays,
    feedback_matrix,
    sequence_arrays,
)
from models.schema import FLAGS, FeedbackEvent, Profile
from models.vocabulary import UNKNOWN, Vocabulary
from training.data import SyntheticConfig, load, prepare, simulate_log


@pytest.fixture
def simulated_data(tmp_path: Path) -> Path:
    """A small DATA folder."""
    config = tmp_path / "config.json"
    config.write_text(SyntheticConfig(users=20, videos=30, exposures=300).model_dump_json())
    return prepare("synthetic", config, tmp_path / "data", progress=False).out


def own_log(folder: Path, **columns: object) -> Path:
    """Write three rows of an own log, with columns replaced, or left out where `None`."""
    table: dict[str, object] = {
        "user_id": ["b", "a", "a"],
        "video_id": ["v1", "v1", "v2"],
        "timestamp_ms": [1_700_000_002_000, 1_700_000_001_000, 1_700_000_000_000],
        "watch_time_s": [4.0, 5.0, 6.0],
        "duration_s": [10.0, 10.0, 3.0],
        **{name: [False, True, False] for name in FLAGS},
        "tab": ["1", None, "1"],
        "author_id": ["x", "x", None],
        "tag": ["t", "t", "t"],
    }
    table |= columns
    folder.mkdir(exist_ok=True)
    pl.DataFrame({k: v for k, v in table.items() if v is not None}, strict=False).write_parquet(
        folder / "interactions.parquet"
    )
    return folder


class TestVocabulary:
    def test_fields_are_those_the_graphs_embed(self, simulated_data: Path) -> None:
        assert set(load(simulated_data).vocabulary().fields) == {
            "video_id",
            "author_id",
            "tag",
            "tab",
            "profile.segment",
        }

    def test_nothing_from_the_test_days_is_in_it(self, simulated_data: Path) -> None:
        data = load(simulated_data)
        moment = int(np.median(data.log["timestamp_ms"].to_numpy()))
        early = data.log.filter(pl.col("timestamp_ms") < moment)
        vocabulary = data.vocabulary(moment)
        for name in ("video_id", "author_id", "tag", "tab"):
            assert set(vocabulary.fields[name]) == set(early[name].unique())
        assert len(data.vocabulary(int(data.log["timestamp_ms"].to_numpy().min())).fields["video_id"]) == 0

    def test_a_profile_category_of_a_user_unseen_before_is_not_in_it(self, tmp_path: Path) -> None:
        folder = own_log(tmp_path / "d")
        pl.DataFrame({"user_id": ["a", "b"], "plan": ["free", "paid"]}).write_parquet(
            folder / "users.parquet"
        )
        assert load(folder).vocabulary(1_700_000_002_000).fields["profile.plan"] == ["free"]

    def test_rare_ids_are_left_out_and_the_most_frequent_come_first(self, tmp_path: Path) -> None:
        data = load(own_log(tmp_path / "d", tag=["z", "t", "z"]))
        assert data.vocabulary().fields["tag"] == ["z", "t"]
        assert data.vocabulary(min_count=2).fields["tag"] == ["z"]

    def test_missing_ids_are_no_ids(self, tmp_path: Path) -> None:
        assert load(own_log(tmp_path / "d")).vocabulary().fields["tab"] == ["1"]


HISTORY: dict[str, list[object]] = {
    "user_id": ["a", "a", "b", "stranger"],
    "video_id": ["v2", "new", "v1", "v1"],
    "position": [4, 1, 3, 1],
    "long_view": [True, None, False, True],
    "like": [False, True, True, True],
}


class TestHistory:
    def test_exposures_before_the_log_are_right_aligned_and_unknown_flags_0(self, tmp_path: Path) -> None:
        folder = own_log(tmp_path / "d")
        pl.DataFrame(HISTORY).write_parquet(folder / "history.parquet")
        rows = load(folder).interactions(
            Vocabulary({"video_id": ["v1", "v2"], "author_id": [], "tag": [], "tab": []})
        )
        assert rows.history_ids.shape == (2, HISTORY_LENGTH)
        assert rows.history_ids[:, -3:].tolist() == [[0, 3, UNKNOWN], [0, 0, 2]]
        assert rows.history_feedback[:, -2:].tolist() == [[[1, 0], [0, 1]], [[0, 0], [0, 1]]]
        assert not rows.history_ids[:, :-3].any()

    def test_without_the_file_nothing_is_known_of_that_time(self, tmp_path: Path) -> None:
        data = load(own_log(tmp_path / "d"))
        rows = data.interactions(data.vocabulary())
        assert (rows.history_ids.shape, rows.history_feedback.shape) == ((2, 0), (2, 0, 2))

    @pytest.mark.parametrize(
        ("column", "values", "words"),
        [
            ("position", [2, 1, 0, 1], "row 3: `position` must count from 1"),
            ("position", [1, 1, 1, 1], "row 1: `position` is there twice for one user"),
            ("position", None, "lacks the column `position`"),
            ("video_id", ["v2", None, "v1", "v1"], "row 2: `video_id` is empty"),
            ("like", [0, 1, 2, 1], "row 3: `like` must be 0 or 1"),
        ],
    )
    def test_a_file_that_cannot_be_meant_is_refused(
        self, tmp_path: Path, column: str, values: list[object] | None, words: str
    ) -> None:
        folder = own_log(tmp_path / "d")
        table = {name: v for name, v in (HISTORY | {column: values}).items() if v is not None}
        pl.DataFrame(table).write_parquet(folder / "history.parquet")
        with pytest.raises(BadInput, match=re.escape(words)):
            load(folder)


class TestInteractions:
    def test_the_log_is_sorted_by_user_time_and_video(self, tmp_path: Path) -> None:
        data = load(own_log(tmp_path / "d"))
        rows = data.interactions(data.vocabulary())
        assert rows.user_ids == ("a", "b")
        assert rows.user.tolist() == [0, 0, 1]
        assert rows.watch_time_s.tolist() == [6.0, 5.0, 4.0]

    def test_ids_outside_the_vocabulary_and_missing_ones_are_unknown(self, tmp_path: Path) -> None:
        data = load(own_log(tmp_path / "d"))
        few = Vocabulary({"video_id": ["v2"], "author_id": ["x"], "tag": [], "tab": ["1"]})
        assert data.interactions(few).ids.tolist() == [
            [2, UNKNOWN, UNKNOWN, 2],
            [UNKNOWN, 2, UNKNOWN, UNKNOWN],
            [UNKNOWN, 2, UNKNOWN, 2],
        ]

    def test_training_reads_a_log_as_the_service_reads_its_events(self, simulated_data: Path) -> None:
        data = load(simulated_data)
        vocabulary = data.vocabulary()
        rows = data.interactions(vocabulary)
        user = rows.user_ids[0]
        events = [
            FeedbackEvent(event_id=str(n), **{k: v for k, v in row.items() if v is not None})
            for n, row in enumerate(data.log.filter(pl.col("user_id") == user).iter_rows(named=True))
        ]
        last = int(np.flatnonzero(rows.user == 0)[-1])
        history = rows.history(np.array([last]), length=len(events))
        served = sequence_arrays(Exposures.from_events(events[:-1]), vocabulary, events[-1].timestamp_ms)
        np.testing.assert_array_equal(history.sequence_ids, served["sequence_ids"])
        np.testing.assert_array_equal(history.sequence_feedback, served["sequence_feedback"])
        np.testing.assert_allclose(history.sequence_age_s, served["sequence_age_s"])
        np.testing.assert_array_equal(rows.feedback[: len(events)], feedback_matrix(events))

    def test_profiles_are_the_ones_the_service_would_build(self, tmp_path: Path) -> None:
        folder = own_log(tmp_path / "d")
        pl.DataFrame(
            {
                "user_id": ["b", "a", "stranger"],
                "age": [31.5, None, 1.0],
                "kind": [3.0, 4.5, 9.0],
                "plan": [None, "free", "x"],
            }
        ).write_parquet(folder / "users.parquet")
        note = load(folder).info.model_dump()
        note["profile"] = {"numbers": ["age"], "categories": ["kind", "plan"]}
        (folder / "dataset.json").write_text(json.dumps(note))
        data = load(folder)
        vocabulary = data.vocabulary()
        rows = data.interactions(vocabulary)
        profiles: dict[str, Profile] = {"a": {"kind": 4.5, "plan": "free"}, "b": {"age": 31.5, "kind": 3}}
        for u, user in enumerate(rows.user_ids):
            served = context_arrays(
                profiles[user], None, vocabulary, data.profile_numbers, data.profile_categories
            )
            np.testing.assert_array_equal(rows.profile[u : u + 1], served["profile"])
            np.testing.assert_array_equal(rows.profile_ids[u : u + 1], served["profile_ids"])

    def test_a_bundle_reads_another_data_set_in_its_own_layout(self, tmp_path: Path) -> None:
        folder = own_log(tmp_path / "d")
        pl.DataFrame({"user_id": ["a"], "age": [3.0], "plan": ["free"]}).write_parquet(
            folder / "users.parquet"
        )
        theirs = Vocabulary(
            {
                "video_id": [],
                "author_id": [],
                "tag": [],
                "tab": [],
                "profile.city": ["x"],
                "profile.plan": ["free"],
            }
        )
        rows = load(folder).interactions(theirs, ["height", "age"])
        np.testing.assert_array_equal(rows.profile, [[np.nan, 3.0], [np.nan, np.nan]])
        assert rows.profile_ids.tolist() == [[UNKNOWN, 2], [UNKNOWN, UNKNOWN]]

    def test_a_log_without_users_has_empty_profiles(self, tmp_path: Path) -> None:
        data = load(own_log(tmp_path / "d"))
        rows = data.interactions(data.vocabulary())
        assert rows.profile.shape == (2, 0)
        assert rows.profile_ids.shape == (2, 0)

    def test_the_feedback_columns_are_the_contracts(self, simulated_data: Path) -> None:
        data = load(simulated_data)
        rows = data.interactions(data.vocabulary())
        log = data.log.sort("user_id", "timestamp_ms", "video_id")
        for n, name in enumerate(FEEDBACK_COLUMNS):
            np.testing.assert_array_equal(rows.feedback[:, n], log[name].cast(pl.Float32).to_numpy())


class TestOnesOwnLog:
    def test_only_the_interactions_are_required(self, tmp_path: Path) -> None:
        data = load(own_log(tmp_path / "mine"))
        assert data.info.dataset == "mine"
        assert data.info.rows.kept == 3
        assert data.info.main_tab is None
        assert data.info.days == ("2023-11-14",)

    def test_integer_ids_and_flags_mean_their_strings_and_bools(self, tmp_path: Path) -> None:
        data = load(own_log(tmp_path / "d", user_id=[2, 1, 1], like=[0, 1, 0], duration_s=[10, 10, 3]))
        assert data.log["user_id"].to_list() == ["1", "1", "2"]
        assert data.log["like"].to_list() == [False, True, False]

    def test_the_order_of_the_rows_does_not_matter(self, tmp_path: Path) -> None:
        ours, theirs = own_log(tmp_path / "a"), tmp_path / "b"
        theirs.mkdir()
        pl.read_parquet(ours / "interactions.parquet").reverse().write_parquet(
            theirs / "interactions.parquet"
        )
        assert load(ours).log.equals(load(theirs).log)


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("columns", "word"),
        [
            ({"duration_s": None}, "lacks the column `duration_s`"),
            ({"tab": None}, "lacks the column `tab`"),
            ({"user_id": [[1], [2], [3]]}, "`user_id` must be String"),
            ({"duration_s": ["a", "b", "c"]}, "`duration_s` must be Float64"),
            ({"timestamp_ms": [1.5, 2.5, 3.5]}, "`timestamp_ms` must be Int64"),
            ({"like": ["yes", "no", "no"]}, "`like` must be Boolean"),
            ({"like": [0, 2, 0]}, "row 2: `like` must be 0 or 1"),
            ({"watch_time_s": [1.0, -2.0, 3.0]}, "row 2: `watch_time_s` is negative"),
            ({"watch_time_s": [1.0, float("nan"), 3.0]}, "row 2: `watch_time_s` is not a finite number"),
            ({"watch_time_s": [1.0, None, 3.0]}, "row 2: `watch_time_s` is empty"),
            ({"duration_s": [10.0, 10.0, 0.0]}, "row 3: `duration_s` must be above 0"),
            ({"duration_s": [10_000.0, 12_000.0, 3_000.0]}, "looks like milliseconds"),
            ({"duration_s": [10.0, 10.0, 90_000.0]}, "is the unit wrong"),
            ({"watch_time_s": [4e3, 5e3, 6e3]}, "different units"),
            ({"timestamp_ms": [1_700_000_000] * 3}, "is it in seconds"),
            ({"timestamp_ms": [1_700_000_000_000_000] * 3}, "is it in microseconds"),
            ({"user_id": ["a", "", "b"]}, "row 2: `user_id` is an empty id"),
            ({"video_id": ["a", "b", "v" * 257]}, "row 3: `video_id` is an id of more than 256 bytes"),
            ({"tag": ["t", "t\n", "t"]}, "row 2: `tag` is an id with a control character"),
        ],
    )
    def test_a_bad_column(self, tmp_path: Path, columns: dict[str, object], word: str) -> None:
        with pytest.raises(BadInput) as caught:
            load(own_log(tmp_path / "d", **columns))
        assert word in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_folder_without_a_log_says_how_to_make_one(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput, match="python -m training prepare"):
            load(tmp_path)

    def test_an_empty_log(self, simulated_data: Path) -> None:
        path = simulated_data / "interactions.parquet"
        pl.read_parquet(path).clear().write_parquet(path)
        with pytest.raises(BadInput, match="no rows"):
            load(simulated_data)

    @pytest.mark.parametrize("name", ["interactions.parquet", "users.parquet", "videos.parquet"])
    def test_a_truncated_table(self, simulated_data: Path, name: str) -> None:
        path = simulated_data / name
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(BadInput, match=rf"{name} is not a readable parquet"):
            load(simulated_data)

    @pytest.mark.parametrize("text", ["", "{}", '{"dataset": 1}'])
    def test_a_note_that_is_none(self, simulated_data: Path, text: str) -> None:
        (simulated_data / "dataset.json").write_text(text)
        with pytest.raises(BadInput, match=r"dataset\.json cannot be read"):
            load(simulated_data)

    def test_a_declared_feature_that_is_not_there(self, simulated_data: Path) -> None:
        path = simulated_data / "users.parquet"
        pl.read_parquet(path).drop("segment").write_parquet(path)
        with pytest.raises(BadInput, match="lacks `segment`"):
            load(simulated_data)

    @pytest.mark.parametrize(("name", "key"), [("users", "user_id"), ("videos", "video_id")])
    def test_a_table_of_another_log(self, simulated_data: Path, name: str, key: str) -> None:
        path = simulated_data / f"{name}.parquet"
        pl.read_parquet(path).with_columns(("x" + pl.col(key)).alias(key)).write_parquet(path)
        with pytest.raises(BadInput, match=rf"{name}\.parquet describes no `{key}` of the log"):
            load(simulated_data)

    def test_a_category_that_is_no_id(self, simulated_data: Path) -> None:
        path = simulated_data / "users.parquet"
        pl.read_parquet(path).with_columns(segment=pl.lit("a\0b")).write_parquet(path)
        with pytest.raises(BadInput, match="`segment` is an id with a control character"):
            load(simulated_data)

    def test_a_user_listed_twice(self, simulated_data: Path) -> None:
        path = simulated_data / "users.parquet"
        users = pl.read_parquet(path)
        pl.concat([users, users.head(1)]).write_parquet(path)
        with pytest.raises(BadInput, match="twice"):
            load(simulated_data)


def test_a_log_in_memory_is_the_log_on_disk(tmp_path: Path) -> None:
    ours = simulate_log(seed=5).dataset()
    theirs = load(prepare("synthetic", None, tmp_path / "d", seed=5, progress=False).out)
    assert ours.info == theirs.info
    assert ours.log.equals(theirs.log)
    assert ours.tables.users.equals(theirs.tables.users)
    assert ours.tables.videos.equals(theirs.tables.videos)
