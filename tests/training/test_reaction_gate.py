"""No ranker is exported that lifts what a user hates."""

from __future__ import annotations

import pytest

from models.errors import BadInput
from models.manifest import Evaluation
from training.export.reaction_gate import check_reactions


def evaluated(**metrics: float) -> Evaluation:
    return Evaluation(fitted_before_ms=1, from_ms=1, to_ms=2, metrics=metrics)


def test_a_ranker_under_which_anything_gains_by_a_hate_is_refused() -> None:
    with pytest.raises(BadInput, match=r"after a hate 0.1% of the author's candidates"):
        check_reactions(evaluated(gains_after_hate=0.001))


@pytest.mark.parametrize("metrics", [{}, {"gains_after_hate": 0.0, "gains_after_skip": 0.5}])
def test_one_under_which_nothing_does_passes(metrics: dict[str, float]) -> None:
    check_reactions(evaluated(**metrics))
