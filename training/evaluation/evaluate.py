"""Judge a bundle, or a run, on a window of a log that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from models.arrays import F32, I64
from models.errors import BadInput
from models.fusion import fuse
from models.metrics import Figures, long_view, mae_s, report
from models.runtime import Bundle
from models.store import BundleStore
from models.vocabulary import FIRST
from training.data import DAY_MS, Dataset, Interactions, day_to_ms
from training.encoders import batches_for
from training.train.trainer import Predictions, ServedRanker, predict, predictions

BATCH: Final = 1024
"""Rows that an exported graph is asked at once."""
BY_TAB_ROWS: Final = 100
"""Tabs with fewer rows in the window get no figures of their own."""


class Answers(NamedTuple):
    """A ranker's outputs on the same rows, asked for in two ways; see `batches_for`."""

    by_row: Predictions
    """Each row with all that came before it: the errors and the order of predicted seconds are of these."""
    together: Predictions
    """A user's rows as candidates of one request: the order within a user is of these."""

    def take(self, rows: I64) -> Answers:
        """Those of these rows."""
        return Answers(self.by_row.take(rows), self.together.take(rows))


def judge(log: Interactions, rows: I64, out: Answers, weights: Mapping[str, float]) -> Figures:
    """Every figure of `models.metrics.report` on `rows`, for the outputs of a ranker on them."""
    score, _ = fuse(out.together.objectives, weights)
    return report(
        user=log.user[rows],
        watch_time_s=log.watch_time_s[rows],
        duration_s=log.duration_s[rows],
        explicit=log.explicit[rows],
        long_view=long_view(log.watch_time_s[rows], log.duration_s[rows]),
        predicted_s=out.by_row.watch_time_s,
        score=score,
    )


def judge_by_tab(
    log: Interactions, rows: I64, out: Answers, weights: Mapping[str, float], tabs: list[str]
) -> dict[str, Figures]:
    """The same for each tab with at least `BY_TAB_ROWS` rows; `tabs` as the vocabulary lists them."""
    found: dict[str, Figures] = {}
    for row, name in enumerate(tabs, FIRST):
        mine = np.flatnonzero(log.ids[rows, 3] == row)
        if len(mine) >= BY_TAB_ROWS:
            found[name] = judge(log, rows[mine], out.take(mine), weights)
    return found


def median_baseline(
    log: Interactions, rows: I64, before: I64, tabs: list[str]
) -> dict[str, float | int | None]:
    """MAE of what anybody has for nothing: the median watch time of the rows before, over all and by tab."""

    def error(judged: I64, known: I64) -> float | None:
        if not len(known) or not len(judged):
            return None
        median = np.full(len(judged), np.median(log.watch_time_s[known]), np.float32)
        return mae_s(median, log.watch_time_s[judged])

    found: dict[str, float | int | None] = {"mae_s": error(rows, before)}
    for row, name in enumerate(tabs, FIRST):
        mine, known = rows[log.ids[rows, 3] == row], before[log.ids[before, 3] == row]
        if len(mine) >= BY_TAB_ROWS:
            found[f"mae_s.tab_{name}"] = error(mine, known)
    return found


def predict_with(
    bundle: Bundle,
    log: Interactions,
    rows: I64,
    on_step: Callable[[float], None] = lambda _: None,
    *,
    together: bool = False,
) -> Predictions:
    """The exported graph's answers on rows of a log; `together` as of `batches_for`."""
    names = ["watch_time_s", *bundle.manifest.objectives]
    parts: list[list[F32]] = [[np.zeros(0, np.float32)] for _ in names]
    length = bundle.manifest.sequence_length
    for i, x in enumerate(batches_for(log, rows, length, batch=BATCH, together=together), 1):
        out = bundle.run_ranker({n: t.numpy() for n, t in x._asdict().items()}, names)
        for part, name in zip(parts, names, strict=True):
            part.append(out[name][:, 0].astype(np.float32))
        on_step(min(1.0, i * BATCH / len(rows)))
    return predictions(dict(zip(names, map(np.concatenate, parts), strict=True)))


def answers_of(ranker: ServedRanker, log: Interactions, rows: I64, length: int) -> Answers:
    """What the torch modules say of rows, asked in both ways."""
    return Answers(*(predict(ranker, log, rows, length, together=way) for way in (False, True)))


def answers_with(
    bundle: Bundle, log: Interactions, rows: I64, on_step: Callable[[float], None] = lambda _: None
) -> Answers:
    """What an exported graph says of rows, asked in both ways."""
    return Answers(
        predict_with(bundle, log, rows, lambda share: on_step(share / 2)),
        predict_with(bundle, log, rows, lambda share: on_step((1 + share) / 2), together=True),
    )


def window_of(
    dataset: Dataset, watermark_ms: int, start: str | None, end: str | None, *, allow_seen: bool
) -> tuple[int, int]:
    """The half-open window in milliseconds for two dates of the data set's time zone, both inclusive.

    Without `start` it begins right after the watermark; without `end` it reaches to the log's last row.

    Raises:
        BadInput: not a date, an empty window, or one that begins before the watermark.
    """
    offset = dataset.info.utc_offset_hours
    from_ms = day_to_ms(start, offset) if start else watermark_ms + 1
    to_ms = day_to_ms(end, offset) + DAY_MS if end else dataset.info.last_timestamp_ms + 1
    if from_ms <= watermark_ms and not allow_seen:
        seen = datetime.fromtimestamp(watermark_ms / 1000, UTC)
        raise BadInput(
            f"the window begins before the data watermark, {seen:%Y-%m-%d %H:%M:%S} UTC: the weights "
            "have seen those rows. Begin later, or give --allow-seen to judge it all the same."
        )
    if from_ms >= to_ms or from_ms > dataset.info.last_timestamp_ms:
        raise BadInput(
            f"the window is empty: the log ends at {dataset.info.last_timestamp_ms}, the window would be "
            f"{from_ms} to {to_ms}. Give --from and --to within the log, or --allow-seen."
        )
    return from_ms, to_ms


def open_bundle(folder: Path) -> Bundle:
    """A version's folder, or a folder of versions: then the active one."""
    return Bundle.load(version_folder(folder), threads=2)


def version_folder(folder: Path) -> Path:
    """A version's folder as it is; of a folder of versions the active one's."""
    if (folder / "manifest.json").exists():
        return folder
    store = BundleStore(folder)
    return store.path(store.current())


def evaluate(
    dataset: Dataset,
    log: Interactions,
    answers: Callable[[I64], Answers],
    *,
    tabs: list[str],
    weights: Mapping[str, float],
    window: tuple[int, int],
    tab: str | None = None,
) -> dict[str, Any]:
    """Every figure on the rows of a window.

    Args:
        dataset: where `log` comes from.
        log: its exposures; everything before the window is history only.
        answers: rows -> outputs of a ranker.
        tabs: the vocabulary's tabs.
        weights: for the fusion.
        window: half-open, milliseconds.
        tab: judge the rows of this tab alone.

    Raises:
        BadInput: no row is left.
    """
    rows = log.rows_between(*window)
    if tab is not None:
        if tab not in tabs:
            raise BadInput(f"--tab {tab!r} is not in the vocabulary, which has {', '.join(tabs)}.")
        rows = rows[log.ids[rows, 3] == tabs.index(tab) + FIRST]
    if not len(rows):
        raise BadInput("no exposures lie in the window; give other dates.")
    out = answers(rows)
    before = log.rows_between(0, window[0])
    figures: dict[str, Any] = dict(judge(log, rows, out, weights))
    figures["by_tab"] = judge_by_tab(log, rows, out, weights, tabs)
    figures["baselines"] = {"median": median_baseline(log, rows, before, tabs)}
    figures["window"] = {"from_ms": window[0], "to_ms": window[1], "tab": tab}
    return figures
