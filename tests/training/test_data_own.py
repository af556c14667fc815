"""A log of one's own: any columns, units and files become the layout of every dataset."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import polars as pl
import pytest

from tests.training.own_csv import FIRST_S, Row, prepared, refusal, row, rows, write
from training.data.own_log import ColumnMapping, Source


class TestWhatIsRead:
    def test_columns_and_units_are_guessed_and_shown(self, tmp_path: Path) -> None:
        data, lines = prepared(write(tmp_path / "log.csv", rows()), tmp_path / "out")
        assert data.log.row(5, named=True) == {
            "user_id": "u2",
            "video_id": "v1",
            "timestamp_ms": (FIRST_S + 300) * 1000,
            "watch_time_s": 12.5,
            "duration_s": 25.0,
            "like": True,
            **dict.fromkeys(("follow", "comment", "forward", "hate", "profile_enter"), False),
            "tab": None,
            "author_id": "c1",
            "tag": "pets",
        }
        shown = "\n".join(lines)
        assert "guessed" in shown
        assert [line.split()[:3] for line in shown.splitlines() if "ts" in line.split()] == [
            ["timestamp_ms", "ts", "seconds"]
        ]

    @pytest.mark.parametrize(
        ("column", "of_row"),
        [
            ("ts", lambda s: s * 1000),
            ("ts", lambda s: s * 1_000_000),
            ("ts", lambda s: s + 0.0),
            ("ts", lambda s: f"{pl.select(pl.from_epoch(pl.lit(s))).item():%Y-%m-%dT%H:%M:%SZ}"),
            (
                "ts",
                lambda s: f"{pl.select(pl.from_epoch(pl.lit(s + 28_800))).item():%Y-%m-%d %H:%M:%S+08:00}",
            ),
            (
                "ts",
                lambda s: f"{pl.select(pl.from_epoch(pl.lit(s - 12_600))).item():%Y-%m-%d %H:%M:%S.000-0330}",
            ),
            ("ts", lambda s: f"{pl.select(pl.from_epoch(pl.lit(s))).item():%Y-%m-%d %H:%M:%S}"),
        ],
    )
    def test_a_time_is_the_same_moment_in_every_unit(
        self, tmp_path: Path, column: str, of_row: object
    ) -> None:
        assert callable(of_row)
        table = [r | {column: of_row(r["ts"])} for r in rows()]
        data, _ = prepared(write(tmp_path / "log.csv", table), tmp_path / "out")
        assert data.log["timestamp_ms"].to_list() == [(FIRST_S + 60 * n) * 1000 for n in range(12)]

    def test_a_date_without_a_zone_is_in_that_of_the_log(self, tmp_path: Path) -> None:
        table = [r | {"ts": "2024-05-01 00:30:00"} for r in rows()]
        data, _ = prepared(write(tmp_path / "log.csv", table), tmp_path / "out", utc_offset_hours=8.0)
        assert data.info.days == ("2024-05-01",)
        assert data.log["timestamp_ms"][0] == 1_714_494_600_000

    @pytest.mark.parametrize(
        ("name", "factor"), [("play", 1.0), ("play", 1_000.0), ("play_ms", 1_000.0), ("play_min", 1 / 60)]
    )
    def test_lengths_are_in_the_unit_of_their_name_or_of_their_values(
        self, tmp_path: Path, name: str, factor: float
    ) -> None:
        table = [{name if k == "play_seconds" else k: v for k, v in r.items()} for r in rows()]
        table = [r | {name: 12.5 * factor, "length": 25_000} for r in table]
        data, _ = prepared(write(tmp_path / "log.csv", table), tmp_path / "out")
        assert data.log["watch_time_s"].to_list() == pytest.approx([12.5] * 12)
        assert data.log["duration_s"].to_list() == [25.0] * 12

    def test_a_clock_holds_what_was_watched_and_the_length(self, tmp_path: Path) -> None:
        table = [{"uid": r["uid"], "vid": r["vid"], "ts": r["ts"], "progress": "01:04/02:01"} for r in rows()]
        data, _ = prepared(write(tmp_path / "log.csv", table), tmp_path / "out")
        assert data.log.row(0)[3:5] == (64.0, 121.0)

    def test_flags_may_be_words_counts_or_times(self, tmp_path: Path) -> None:
        values: list[Row] = [
            {"liked": "yes", "shared": 3, "followed_at": "2024-01-01 10:00"},
            {"liked": "No", "shared": 0, "followed_at": None},
            {"liked": None, "shared": None, "followed_at": "2024-01-02 10:00"},
        ]
        table = [r | values[n % 3] for n, r in enumerate(rows())]
        data, _ = prepared(write(tmp_path / "log.csv", table), tmp_path / "out", "follow=followed_at")
        assert data.log.select("like", "forward", "follow").rows()[:3] == [
            (True, True, True), (False, False, False), (False, False, True),
        ]  # fmt: skip

    def test_of_several_columns_a_flag_is_set_by_any(self, tmp_path: Path) -> None:
        table = [r | {"favorited": int(n == 1)} for n, r in enumerate(rows())]
        data, _ = prepared(write(tmp_path / "log.csv", table), tmp_path / "out", "like=liked|favorited")
        assert data.log["like"].arg_true().to_list() == [1, 5]

    def test_ids_are_text_without_a_spreadsheets_decimals_and_exact(self, tmp_path: Path) -> None:
        ids = ["12.0", "12", "007", str(2**53 + 1), f"{2**64 + 1}.0"]
        table = [row(user, f"v{n}", n) for n, user in enumerate(ids)]
        data, _ = prepared(write(tmp_path / "log.csv", table), tmp_path / "out")
        assert data.log["user_id"].to_list() == ["12", "12", "007", str(2**53 + 1), str(2**64 + 1)]

    @pytest.mark.parametrize("form", ["gz", "zst", "parquet", "ndjson", "array", "semicolon", "excel"])
    def test_every_form_of_file_holds_the_same_rows(self, tmp_path: Path, form: str) -> None:
        table = pl.DataFrame(rows())
        source = tmp_path / "log" / "log.csv"
        source.parent.mkdir()
        text = table.write_csv()
        if form == "gz":
            source.with_suffix(".csv.gz").write_bytes(gzip.compress(text.encode()))
        elif form == "zst":
            table.write_csv(source.with_suffix(".csv.zst"), compression="zstd")
        elif form == "parquet":
            times = pl.from_epoch("ts").dt.replace_time_zone("UTC")
            table.with_columns(ts=times, liked=pl.col("liked") == 1).write_parquet(
                source.with_suffix(".parquet")
            )
        elif form == "ndjson":
            source.with_suffix(".ndjson").write_text("\ufeff" + table.write_ndjson())
        elif form == "array":
            source.with_suffix(".json").write_text(table.write_json())
        elif form == "semicolon":
            source.write_text(text.replace(",", ";"))
        else:
            source.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
        ours, _ = prepared(source.parent, tmp_path / "ours")
        plain, _ = prepared(write(tmp_path / "plain.csv", rows()), tmp_path / "plain")
        assert ours.log.equals(plain.log)

    def test_many_files_are_one_log_and_may_lack_a_column_that_is_optional(self, tmp_path: Path) -> None:
        table = rows()
        write(tmp_path / "log" / "day=1" / "a.csv", table[:5])
        write(
            tmp_path / "log" / "day=2" / "b.csv",
            [{k: v for k, v in r.items() if k != "liked"} for r in table[5:]],
        )
        (tmp_path / "log" / "_SUCCESS").touch()
        (tmp_path / "log" / "empty.csv").touch()
        whole, _ = prepared(tmp_path / "log", tmp_path / "out")
        assert len(whole.log) == 12
        assert not whole.log["like"].any()
        pattern, _ = prepared(tmp_path / "log" / "*" / "*.csv", tmp_path / "again")
        assert pattern.log.equals(whole.log)

    def test_quoted_commas_and_line_ends_are_part_of_a_value(self, tmp_path: Path) -> None:
        table = [r | {"category": 'pets, "big"', "note": "two\nlines"} for r in rows()]
        data, _ = prepared(write(tmp_path / "log.csv", table), tmp_path / "out")
        assert data.log["tag"].unique().to_list() == ['pets, "big"']

    def test_rows_in_any_order_are_sorted(self, tmp_path: Path) -> None:
        table = rows()
        plain, _ = prepared(write(tmp_path / "plain.csv", table), tmp_path / "plain")
        random.Random(1).shuffle(table)
        shuffled, _ = prepared(write(tmp_path / "log.csv", table), tmp_path / "out")
        assert shuffled.log.equals(plain.log)
        assert pl.read_parquet(tmp_path / "out" / "interactions.parquet")["timestamp_ms"].is_sorted()

    def test_a_table_of_videos_fills_what_the_log_lacks(self, tmp_path: Path) -> None:
        table = [{k: v for k, v in r.items() if k not in ("creator_id", "category")} for r in rows()]
        table[0]["length"] = None
        videos = [
            {"vid": f"v{n}", "length_ms": 30_000 + n, "creator_id": f"c{n}", "genre": "pets"}
            for n in range(9)
        ]
        data, _ = prepared(
            write(tmp_path / "log.csv", table),
            tmp_path / "out",
            videos=write(tmp_path / "videos.csv", videos),
        )
        assert data.log["duration_s"].to_list()[:2] == [30.0, 25.0]
        assert data.log["author_id"].to_list()[:4] == ["c0", "c1", "c2", "c3"]
        assert len(data.tables.videos) == 9


class TestFaults:
    def test_each_is_named_once_with_its_count_and_all_rows_are_accounted_for(self, tmp_path: Path) -> None:
        late = FIRST_S * 3
        spoiled: list[Row] = [
            {"uid": None}, {"vid": ""}, {"uid": "a\x07b"}, {"vid": "ü" * 129},
            {"ts": None}, {"ts": "noon"}, {"ts": 12}, {"ts": late}, {"ts": late + 1},
            {"play_seconds": "NaN"}, {"play_seconds": None}, {"play_seconds": "long"}, {"play_seconds": -1},
            {"play_seconds": 1e9}, {"length": 0}, {"length": None}, {"length": 1e6}, {"liked": "perhaps"},
        ]  # fmt: skip
        table = rows() * 2 + [row("u0", "v0", 0, play_seconds=20.0, liked=1)]
        table += [row("x", f"y{n}", n) | change for n, change in enumerate(spoiled)]
        path = write(tmp_path / "log.csv", table)
        path.write_text(path.read_text() + "one,two\n")
        data, lines = prepared(path, tmp_path / "out")
        dropped = {
            "no_user_id": 1, "no_video_id": 1, "user_id_with_control_character": 1, "video_id_too_long": 1,
            "no_time": 1, "invalid_time": 1, "time_before_2000": 1, "time_in_the_future": 2,
            "no_watch_time": 2, "invalid_watch_time": 1, "negative_watch_time": 1, "watch_time_too_long": 1,
            "no_duration": 1, "invalid_duration": 2, "invalid_flag": 1,
            "unreadable_line": 1, "exact_duplicate": 12, "logged_twice": 1,
        }  # fmt: skip
        assert data.info.rows.dropped == dropped
        assert (data.info.rows.kept, data.info.rows.read) == (12, len(table) + 1)
        named = [line for line in lines if line.startswith("dropped ")]
        assert len(named) == len(dropped)
        assert "dropped 2 rows: the time is in the future, such as '5100000000'" in named

    def test_of_an_exposure_logged_twice_the_longest_watch_stays_with_the_feedback_of_all(
        self, tmp_path: Path
    ) -> None:
        table = [
            *rows(),
            row("u0", "v0", 0, play_seconds=20.0),
            row("u0", "v0", 0, play_seconds=3.0, shared=1),
        ]
        data, _ = prepared(write(tmp_path / "log.csv", table), tmp_path / "out")
        assert data.log.row(0, named=True)["watch_time_s"] == 20.0
        assert data.log.row(0, named=True)["forward"]

    def test_what_cannot_be_learned_for_lack_of_a_column_is_said_once(self, tmp_path: Path) -> None:
        table = [{k: r[k] for k in ("uid", "vid", "ts", "play_seconds", "length")} for r in rows()]
        data, lines = prepared(write(tmp_path / "log.csv", table), tmp_path / "out")
        assert sum("explicit feedback" in line for line in lines) == 1
        assert data.info.notes == tuple(line for line in lines if line.startswith("No "))


class TestMapping:
    def test_it_is_kept_and_gives_the_same_rows_again(self, tmp_path: Path) -> None:
        source = write(tmp_path / "log" / "log.csv", rows())
        first, _ = prepared(source, tmp_path / "a", "tag=creator_id", "author_id=", main_tab="1")
        kept = tmp_path / "a" / "mapping.json"
        assert json.loads(kept.read_text())["interactions"]["timestamp_ms"] == "ts:s"
        again, lines = prepared(source, tmp_path / "b", mapping=kept)
        assert again.log.equals(first.log)
        assert again.info.main_tab == "1"
        assert str(kept) in lines[0]
        (source.parent / "mapping.json").write_text(kept.read_text())
        beside, lines = prepared(source.parent, tmp_path / "c")
        assert beside.log.equals(first.log)
        assert str(source.parent / "mapping.json") in lines[0]

    def test_a_source_is_its_text(self) -> None:
        for source in (
            Source(columns=("a", "b"), unit="ms"),
            Source(columns=("a|b",)),
            Source(columns=("a:s",)),
        ):
            mapping = ColumnMapping(interactions={"user_id": source})
            assert ColumnMapping.model_validate_json(mapping.model_dump_json()) == mapping

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("{", "Invalid JSON"),
            ('{"interactions": {"user": "uid"}}', "there is no column 'user' of ours"),
            ('{"interactions": {"user_id": "uid:ms"}}', "cannot be in 'ms'"),
            ('{"columns": {}}', "`columns`"),
        ],
    )
    def test_a_file_that_is_none_is_refused(self, tmp_path: Path, text: str, word: str) -> None:
        (tmp_path / "m.json").write_text(text)
        source = write(tmp_path / "log.csv", rows())
        assert word in refusal(source, tmp_path / "out", mapping=tmp_path / "m.json")


class TestWhatIsRefused:
    def test_no_such_path(self, tmp_path: Path) -> None:
        assert "there is no such file or folder" in refusal(tmp_path / "nowhere.csv", tmp_path / "out")
        (tmp_path / "folder").mkdir()
        assert "holds no file" in refusal(tmp_path / "folder", tmp_path / "out")

    @pytest.mark.parametrize(
        ("content", "word"),
        [
            (b"", "is empty"),
            (b"uid,vid,ts,play_seconds,length\n", "it has no rows"),
            (b"7,9,1700000000,3.5,10\n7,9,1700000001,3.5,10\n", "has no header"),
            ("uid,vid\n1,2\n".encode("utf-16"), "is not text in UTF-8"),
            (b"uid,uid\n1,2\n", "two columns 'uid'"),
            (
                b"uid,vid,ts,length\n1,2,3,4\n",
                "unclear which column is watch_time_s: the log has uid, vid, ts, length",
            ),
            (b"uid,user_name,viewer,vid,ts,play,length\n", "it has no rows"),
            (
                b"uid,vid,ts,play,length\n" + b"1,2,1700000000,7,1900\n" * 3,
                "the unit of duration_s in 'length'",
            ),
            (b"uid,vid,ts,play,length\n" + b"1,2,17,7,19\n" * 3, "is no time since 1970"),
            (b"a_id,vid,like,is_like\n", "unclear"),
            (b"uid,vid,ts,play,length,liked_x,share,share_\n", "'share' and 'share_' may both be forward"),
        ],
    )
    def test_a_file_of_which_nothing_can_be_made(self, tmp_path: Path, content: bytes, word: str) -> None:
        (tmp_path / "log.csv").write_bytes(content)
        assert word in refusal(tmp_path / "log.csv", tmp_path / "out")

    @pytest.mark.parametrize(
        ("change", "word"),
        [
            ("user_id=nobody_id", "no column 'nobody_id', which user_id is to be read from; it has uid, vid"),
            ("user=uid", "there is no column 'user' of ours"),
            ("user_id", "is not OURS=YOURS"),
            ("user_id=uid:ms", "cannot be in 'ms'"),
            ("watch_time_s=play_seconds:ms", "different units"),
            ("timestamp_ms=ts:ms", "no row of"),
            ("duration_s=", "unclear which column is duration_s"),
        ],
    )
    def test_a_mapping_that_is_wrong(self, tmp_path: Path, change: str, word: str) -> None:
        assert word in refusal(write(tmp_path / "log.csv", rows()), tmp_path / "out", change)

    def test_ids_and_times_that_lost_digits(self, tmp_path: Path) -> None:
        for column in ("uid", "vid", "ts"):
            table = [*rows(), row("u", "v", 1, **{column: "1.59388E+09"})]
            message = refusal(write(tmp_path / "log.csv", table), tmp_path / "out")
            assert "has lost digits, such as '1.59388E+09'" in message.replace("`", "")
        floats = pl.DataFrame(rows()).with_columns(uid=2.0**53)
        floats.write_parquet(tmp_path / "log.parquet")
        assert "has lost digits" in refusal(tmp_path / "log.parquet", tmp_path / "out")

    def test_another_table_in_the_same_folder(self, tmp_path: Path) -> None:
        write(tmp_path / "log" / "a.csv", rows())
        write(tmp_path / "log" / "videos.csv", [{"vid": "v1", "length": 25.0}])
        assert "videos.csv has no column 'uid'" in refusal(tmp_path / "log", tmp_path / "out")
        data, _ = prepared(tmp_path / "log", tmp_path / "out", videos=tmp_path / "log" / "videos.csv")
        assert len(data.log) == 12

    def test_files_of_several_kinds_or_damaged_ones(self, tmp_path: Path) -> None:
        write(tmp_path / "log" / "a.csv", rows())
        (tmp_path / "log" / "b.parquet").write_bytes(b"PAR1 and no more")
        assert "several kinds" in refusal(tmp_path / "log", tmp_path / "out")
        assert "cannot be read" in refusal(tmp_path / "log" / "b.parquet", tmp_path / "out")
        whole = gzip.compress(pl.DataFrame(rows() * 5000).write_csv().encode())
        (tmp_path / "log.csv.gz").write_bytes(whole[:-30])
        assert "cannot be read" in refusal(tmp_path / "log.csv.gz", tmp_path / "out")

    @pytest.mark.parametrize("name", ["videos", "users"])
    def test_a_table_of_another_log(self, tmp_path: Path, name: str) -> None:
        path = write(tmp_path / "table.csv", [{"uid": "stranger", "vid": "stranger", "length": 5}])
        message = refusal(write(tmp_path / "log.csv", rows()), tmp_path / "out", **{name: path})
        assert "describes no" in message
