"""Whether learning made labels better: on later days, beside labels that were not learned.

Labels are learned on the windows before a window t and scored on t, by the composite that they are learned
for, for every t but the first. Beside them stand two twins: the frozen labels, which stay at their start, and
labels learned by the same rule from shuffled gradients, which know nothing of the rows. What learned labels
gain over the first may come from moving at all; what they gain over the second comes from the gradient.
"""

# Shape suffixes: V users of windows, one after the other; U distinct users; O objectives; M margins.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.arrays import F64, I64, Bools
from models.manifest import LabelEvidence, LearnedLabels, Margin
from training.data import Interactions, LikesHates
from training.evaluation.bootstrap import paired_bootstrap
from training.labelcraft._objectives import Objective
from training.labelcraft.closed_form import (
    ClosedFormConfig,
    Composite,
    LabelSurface,
    RidgeWindow,
    first_days,
    learn_surface,
    objectives_of,
    ridge_windows,
)
from training.labels import labels_of

LEAST_DISTANCE: Final = 0.1
"""Root mean square change of the log's labels from their start, in their deviations. Labels that stayed at a
start, but for rounding and smoothing, are closer."""
SHUFFLES: Final = 3
"""One shuffle alone says little: on KuaiRand-Pure labels learned from it are as good as from the gradient, or
far below their start, as it happens."""


def compare_with_twins(
    log: Interactions,
    day: I64,
    config: ClosedFormConfig,
    *,
    objectives: Mapping[str, Objective] | None = None,
    further: Sequence[Objective] = (),
    likes_hates: LikesHates | None = None,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
) -> LabelEvidence | None:
    """Learn labels as `learn_labels` does on the days before each window, with their twins, and compare them.

    Args:
        log: exposures, none of the test days.
        day: `[N]` the day of each.
        config: how labels are learned.
        objectives, further: see `learn_labels`.
        likes_hates: see `learn_surface`; the shuffled labels are learned with them, too.
        seed: of the draws of users, of the shuffles and of the halves.
        on_progress: called with the share of the work that is done.

    Returns:
        `None` if there is one window alone, and so none to learn on before it.

    Raises:
        BadInput: see `learn_labels`.
    """
    begins = first_days(day, config.window_days)
    if len(begins) < 2:
        return None
    early = log.take(np.flatnonzero(day < begins[1]))
    objectives = objectives or objectives_of(config, further)
    done = 0

    def windows_of(gradient: str, seed: int) -> list[RidgeWindow]:
        changed = config.model_copy(update={"gradient": gradient})
        return ridge_windows(log, day, LabelSurface(config).fit(early), changed, seed=seed)

    def learn(windows: list[RidgeWindow], before: int, steps: int) -> LabelSurface:
        surface, changed = LabelSurface(config).fit(early), config.model_copy(update={"steps": steps})
        return learn_surface(
            log.take(np.flatnonzero(day < before)),
            [window.as_known_before(before) for window in windows],
            surface,
            changed,
            objectives=objectives,
            likes_hates=likes_hates,
            seed=seed,
        ).label_maker

    def later_days(windows: list[RidgeWindow], steps: int) -> Tensor:
        """Return `[O, V]` the objectives of the users of all windows but the first."""
        nonlocal done
        parts = []
        for t, window in enumerate(windows[1:], start=1):
            labels = learn(windows[:t], window.first_day, steps)
            slate_UC = composite.slates(window.candidates, window.scores(labels.table))
            parts.append(composite.values(window.candidates, slate_UC))
        done += 1
        on_progress(done / (SHUFFLES + 3))
        return torch.cat(parts, dim=1)

    def composites(value_OV: Tensor) -> F64:
        return composite.of_values(value_OV).numpy().astype(np.float64)

    windows = windows_of(config.gradient, seed)
    if len(windows) < 2:
        return None
    composite = Composite([window.candidates for window in windows], objectives, config.k)
    learned_OV, frozen_OV = later_days(windows, config.steps), later_days(windows, steps=0)
    learned_V, frozen_V = composites(learned_OV), composites(frozen_OV)
    shuffled_V = np.mean(
        [composites(later_days(windows_of("shuffled", seed + i), config.steps)) for i in range(SHUFFLES)],
        axis=0,
    )
    user_V = np.concatenate([window.user for window in windows[1:]])
    over_frozen, over_shuffled = _margins(user_V, [learned_V - frozen_V, learned_V - shuffled_V])
    one, other = (
        learn([window.of_users(half[window.user]) for window in windows], int(day.max()) + 1, config.steps)
        for half in _halves(np.concatenate([window.user for window in windows]), seed)
    )
    on_progress(1.0)
    return LabelEvidence(
        objectives=tuple(composite.objectives),
        windows=len(windows) - 1,
        users=len(np.unique(user_V)),
        composite={
            "learned": float(learned_V.mean()),
            "frozen": float(frozen_V.mean()),
            "shuffled": float(shuffled_V.mean()),
        },
        by_objective={
            name: {"frozen": float(frozen_V.mean()), "learned": float(learned_V.mean())}
            for name, frozen_V, learned_V in zip(composite.objectives, frozen_OV, learned_OV, strict=True)
        },
        over_frozen=over_frozen,
        over_shuffled=over_shuffled,
        halves_correlation=float(np.corrcoef(labels_of(one, log), labels_of(other, log))[0, 1]),
    )


def missing_evidence(labels: LearnedLabels) -> list[str]:
    """Return what is missing to call labels learned: that they moved, and are better than both twins."""
    found = []
    if labels.gradient == "shuffled":
        found.append("their gradients were shuffled")
    if labels.distance < LEAST_DISTANCE:
        found.append(
            f"they moved by {labels.distance:.3f} deviations from their start, less than {LEAST_DISTANCE:g}"
        )
    if labels.evidence is None:
        why = (
            "the log has one window of days, see closed_form.window_days"
            if labels.learner == "closed_form"
            else "the learner has no twin"
        )
        return [*found, f"they were not compared with labels that were not learned, since {why}"]
    margins = {"frozen": labels.evidence.over_frozen, "shuffled": labels.evidence.over_shuffled}
    for twin, margin in margins.items():
        if not margin.low > 0:
            found.append(
                f"on later days they are not better than their {twin} twin ({margin.difference:+.4f}, 95 %: "
                f"{margin.low:+.4f} to {margin.high:+.4f})"
            )
    return found


def _halves(user_V: I64, seed: int) -> tuple[Bools, Bools]:
    """Return of which users each half is, by their index in the log."""
    drawn = np.random.default_rng(seed).permutation(np.unique(user_V))
    first = np.zeros(int(user_V.max()) + 1, bool)
    first[drawn[: len(drawn) // 2]] = True
    return first, ~first


def _margins(user_V: I64, difference_MV: list[F64]) -> list[Margin]:
    """Return the mean differences with their intervals; a user is drawn with all of their windows."""
    _, index_V, count_U = np.unique(user_V, return_inverse=True, return_counts=True)
    mean_MU = np.stack([np.bincount(index_V, difference_V) / count_U for difference_V in difference_MV])
    found = paired_bootstrap(mean_MU, count_U.astype(np.float64))
    return [Margin(difference=p.difference, low=p.ci[0], high=p.ci[1]) for p in found if p is not None]
