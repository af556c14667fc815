"""What the comparisons of a ranker with simple predictors say in words, and what they forbid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from models.errors import BadInput
from models.manifest import Comparison

_NAMES: Final = {
    "median": "the median",
    "mean": "the mean",
    "popularity": "the mean of each video",
    "trees": "boosted trees",
}
_FIGURES: Final = {
    "mae_s": ("MAE", ".2f", " s"),
    "rmse_s": ("RMSE", ".2f", " s"),
    "xauc": ("XAUC", ".4f", ""),
}
_OUTCOMES: Final = {"better": "better than", "worse": "worse than", "undecided": "not decided against"}
_CONSTANTS: Final = ("median", "mean")


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Return in a sentence what the ranker is better than on the test days, what worse, what is undecided."""
    parts = []
    for outcome, words in _OUTCOMES.items():
        against = [each for each in comparisons if each.outcome == outcome]
        if against:
            parts.append(f"{words} {', '.join(_described(against))}")
    if not parts:
        return "The ranker was not compared with simple predictors."
    return f"On the test days the predicted watch time is {'; '.join(parts)}."


def refuse_worse_than_constant(comparisons: Sequence[Comparison]) -> None:
    """Refuse a ranker that predicts worse than the same number for every video.

    Raises:
        BadInput: it is worse than the median or the mean of the earlier days.
    """
    worse = [each for each in comparisons if each.baseline in _CONSTANTS and each.outcome == "worse"]
    if worse:
        constants = " and ".join(_described(worse))
        raise BadInput(
            f"on the test days this ranker predicts watch time worse than {constants} of the "
            "earlier days. Fit on a longer log or with other hyperparameters, or promote it with --force."
        )


def _described(comparisons: Sequence[Comparison]) -> list[str]:
    """Name each baseline once, with its figures."""
    figures: dict[str, list[str]] = {}
    for each in comparisons:
        name, form, unit = _FIGURES[each.figure]
        figure = f"{name} {each.ranker:{form}} against {each.simple:{form}}{unit}"
        figures.setdefault(_NAMES[each.baseline], []).append(figure)
    return [f"{baseline} ({', '.join(found)})" for baseline, found in figures.items()]
