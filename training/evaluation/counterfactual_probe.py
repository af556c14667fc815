"""The counterfactual probe: a whole view in the history becomes a skip, similar candidates should fall."""

# Shape suffixes: B requests, K kinds of candidate.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from models.arrays import F32, F64, I64
from models.errors import BadInput
from models.features import FEEDBACK_COLUMNS, SEQUENCE_ID_COLUMNS
from models.vocabulary import FIRST, UNKNOWN
from training.data import Interactions
from training.encoders import RankerInputs, inputs_for

KINDS: Final = ("author", "tag", "unrelated")
"""Candidates of a probe: of the step's author, of its tag by another author, of neither."""

NEWEST: Final = 3
"""Steps at the end that stay as they are: whatever was done last says much of the user's mood, for every
candidate alike, and that is not what is asked."""

_SKIP_S: Final = 1.0
_CHUNK: Final = 512
_VIDEO, _AUTHOR, _TAG = (SEQUENCE_ID_COLUMNS.index(name) for name in ("video_id", "author_id", "tag"))
_WATCHED, _LENGTH = (FEEDBACK_COLUMNS.index(name) for name in ("watch_time_s", "duration_s"))


@dataclass(frozen=True)
class Probes:
    """B requests of K candidates each, before and after one step has become a skip."""

    before: RankerInputs
    after: RankerInputs
    exists: npt.NDArray[np.bool_]
    """`[B, K]` whether the log has a candidate of this kind for the request; elsewhere an unknown video."""


class Moved(NamedTuple):
    """What a kind of candidate did."""

    requests: int
    before: float
    """Mean answer before."""
    change: float
    """Mean of after - before."""
    ci: tuple[float, float]
    """95 % of that mean, by the requests' deviation."""
    fell: float
    """Share of requests whose candidate fell."""


def make_probes(log: Interactions, rows: I64, steps: int, *, most: int = 400, seed: int = 0) -> Probes:
    """Probes from the histories of rows of a log.

    The step was watched to its end and is none of the `NEWEST`; afterwards it was watched for a second, and
    whatever else was done at it was not. The candidates are videos of the log that the history does not
    hold, all of them of the rows' typical duration, so that they differ by their relation to the step alone.

    Args:
        log: the exposures.
        rows: whose histories to take; a random choice of those that allow a probe.
        steps: most steps of a history.
        most: requests at most.
        seed: decides the choices.

    Raises:
        BadInput: no history has a whole view that a similar candidate could follow.
    """
    random = np.random.default_rng(seed)
    long: I64 = rows[(np.arange(len(log)) - log.first_row())[rows] > NEWEST]
    tried = np.sort(random.permutation(long)[: 4 * most])
    catalogue = np.unique(log.ids[:, :3], axis=0)
    catalogue = catalogue[(catalogue >= FIRST).all(axis=1)]
    x = inputs_for(log, tried, steps)
    ids, done = x.sequence_ids.numpy(), x.sequence_feedback.numpy()
    candidate_BK3 = np.full((len(tried), len(KINDS), 3), UNKNOWN, np.int64)
    exists, changed = np.zeros((len(tried), len(KINDS)), bool), done.copy()
    picked: list[int] = []
    for i in range(len(tried)):
        known = (ids[i, :-NEWEST, :3] >= FIRST).all(axis=1)
        whole = np.flatnonzero(known & (done[i, :-NEWEST, _WATCHED] >= done[i, :-NEWEST, _LENGTH]))
        if not len(whole) or len(picked) == most:
            continue
        step = int(random.choice(whole))
        for k, found in enumerate(_candidates(catalogue, ids[i, step], ids[i, :, _VIDEO])):
            if len(found):
                candidate_BK3[i, k], exists[i, k] = random.choice(found), True
        if exists[i, :2].any():
            length = done[i, step, _LENGTH]
            changed[i, step] = 0.0
            changed[i, step, _LENGTH], changed[i, step, _WATCHED] = length, min(_SKIP_S, length / 2)
            picked.append(i)
    if not picked:
        raise BadInput(
            "no history of these rows holds a whole view with a similar candidate, so there is nothing to "
            "probe; take more days, or a log that names authors or tags."
        )
    typical = float(np.median(log.duration_s[rows]))
    x = x._replace(
        candidate_ids=torch.from_numpy(candidate_BK3),
        candidate_duration_s=torch.full((len(tried), len(KINDS)), typical),
    )
    before = RankerInputs(*(column[picked] for column in x))
    return Probes(
        before, before._replace(sequence_feedback=torch.from_numpy(changed[picked])), exists[picked]
    )


def moved(answer: Callable[[RankerInputs], F32], probes: Probes) -> dict[str, Moved]:
    """How far each kind of candidate moved, and by `similar` how far those of the author or tag did more
    than the unrelated one of the same request.

    Args:
        answer: requests -> `[B, K]`, what candidates are ordered by, more is higher.
        probes: see `make_probes`.

    Returns:
        By name of `KINDS`, and `similar`; kinds without a candidate are left out.
    """
    before_BK, after_BK = _answers(answer, probes.before), _answers(answer, probes.after)
    change_BK = after_BK - before_BK
    found = {
        kind: _moved(before_BK[exists_B, k], change_BK[exists_B, k])
        for k, (kind, exists_B) in enumerate(zip(KINDS, probes.exists.T, strict=True))
        if exists_B.any()
    }
    # The author's video is the nearer one, where there is one.
    near_B = np.where(probes.exists[:, 0], change_BK[:, 0], change_BK[:, 1])
    was_B = np.where(probes.exists[:, 0], before_BK[:, 0], before_BK[:, 1])
    both_B = probes.exists[:, 2]
    if both_B.any():
        found["similar"] = _moved(was_B[both_B], (near_B - change_BK[:, 2])[both_B])
    return found


def _candidates(catalogue: I64, step: I64, history: I64) -> tuple[I64, I64, I64]:
    """`[C, 3]` videos of each kind for a step, none of them in the history."""
    left = catalogue[~np.isin(catalogue[:, _VIDEO], history)]
    by, about = left[:, _AUTHOR] == step[_AUTHOR], left[:, _TAG] == step[_TAG]
    return left[by], left[about & ~by], left[~about & ~by]


def _answers(answer: Callable[[RankerInputs], F32], x: RankerInputs) -> F64:
    parts = [
        answer(RankerInputs(*(column[start : start + _CHUNK] for column in x)))
        for start in range(0, len(x.context_ids), _CHUNK)
    ]
    return np.concatenate(parts).astype(np.float64)


def _moved(before_B: F64, change_B: F64) -> Moved:
    mean = float(change_B.mean())
    half = 1.96 * float(change_B.std(ddof=1)) / len(change_B) ** 0.5 if len(change_B) > 1 else float("inf")
    return Moved(
        len(change_B), float(before_B.mean()), mean, (mean - half, mean + half), float((change_B < 0).mean())
    )
