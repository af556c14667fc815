"""What a ranker must do after a hate before it is exported."""

from __future__ import annotations

from models.errors import BadInput
from models.manifest import Evaluation


def check_reactions(evaluation: Evaluation) -> None:
    """Refuse a ranker under which a candidate gains by a hate of its author, see `reactions`.

    Rows without known authors, which nothing can be counted on, pass.

    Raises:
        BadInput: some candidate gains.
    """
    gained = evaluation.metrics.get("gains_after_hate")
    if gained:
        raise BadInput(
            f"after a hate {gained:.1%} of the author's candidates stand higher than before; none may. "
            "Weights of the score that count `hate` or `skip` for a candidate do this: fit with others."
        )
