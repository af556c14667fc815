"""The figures of the label table: which there are, what they are called, how many digits they are worth."""

from __future__ import annotations

from typing import Final

COLUMNS: Final = ("nwtg", "neg", "ds")
"""The paper's three, in its order."""

_DIGITS: Final = {
    "ds": 1,
    "recommended_duration_s": 1,
    "epochs": 1,
    "label_duration_correlation": 2,
    "score_duration_correlation": 2,
}
_TITLES: Final = {
    "nwtg": "NWTG@{k}",
    "neg": "NEG@{k}",
    "ds": "DS@{k}, s",
    "composite": "composite@{k}",
    "recommended_duration_s": "mean duration shown@{k}, s",
}
_SUFFIXES: Final = {"plain": ", each user once", "positive_users": ", users with feedback"}


def digits(figure: str) -> int:
    """Digits behind the point: `nwtg@10` -> 4, `ds@10` -> 1 (seconds)."""
    return _DIGITS.get(figure.partition("@")[0], 4)


def title(figure: str) -> str:
    """For readers: `ds@10` -> `DS@10, s`, `neg@5_plain` -> `NEG@5, each user once`."""
    name, _, cut = figure.partition("@")
    k, _, suffix = cut.partition("_")
    return _TITLES[name].format(k=k) + _SUFFIXES.get(suffix, "")
