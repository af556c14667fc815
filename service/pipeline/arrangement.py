"""The order in which a slate is shown, if not that of the scores: rules and exploration, in this order.

1. `exclude_seen`, `exclude_hated` leave candidates out, pinned ones too.
2. `fresh_boost`, `author_decay`, `diversity` change the values that sort; pinned candidates take no part.
3. The values sort; or with exploration the order is drawn by them.
4. `max_per_author`, `max_per_tag` leave candidates out from the top; pinned ones count.
5. `pin` puts candidates at their positions.
6. `top_k` cuts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from service.pipeline.exploration import Explored, discounted_loss, drawn_order, logits, propensities
from service.pipeline.ranking import RankingContext, Slate
from service.pipeline.rules import Groups, Indices, adjust, exclude, limit, pin, possible_rounds
from service.slate_rules import Applied, Explore, Rules


@dataclass(frozen=True, slots=True)
class Arrangement:
    """An order of a slate that rules and exploration have made."""

    order: Indices
    """The candidates that are left, best first."""
    applied: list[Applied] | None
    """What each rule did, in the order in which they applied; `None` of a request without rules."""
    explored: Explored | None = None


def arrange(
    slate: Slate,
    context: RankingContext,
    rules: Rules | None,
    explore: Explore | None,
    *,
    seed: str,
    length: int | None,
    has_history: bool,
) -> Arrangement:
    """Order a slate by rules and exploration.

    Args:
        slate: scored.
        context: what was ranked; with publication times, if there is a `fresh_boost`.
        rules: of the request, which `check_pins` has passed.
        explore: `None` for no exploration.
        seed: of the exploration.
        length: of the reply, if it is cut.
        has_history: whether the store could be read.
    """
    has_rules, rules = rules is not None, rules or Rules()
    candidates = context.candidates
    stays, applied = exclude(rules, context, has_history=has_history)
    pinned: dict[int, int] = {}
    missing: list[str] = []
    if rules.pin:
        index = dict(zip(candidates.video_id, range(len(candidates)), strict=True))
        eligible = set(stays)
        pinned = {index[video]: position for video, position in rules.pin.items() if index[video] in eligible}
        missing = [video for video in rules.pin if index[video] not in eligible]
        stays = [i for i in stays if i not in pinned]

    free = np.array(stays, np.intp)
    score = slate.score[free].astype(np.float64)
    groups = Groups.from_candidates(candidates)
    published_ms = [candidates.published_ms[i] for i in stays] if rules.fresh_boost else ()
    values, adjusted = adjust(rules, score, groups.take(free), published_ms, context.now_ms)
    applied += adjusted
    best = drawn = np.argsort(-values, kind="stable")
    if explore is not None:
        logit = logits(values, explore.temperature)
        drawn = drawn_order(logit, free, len(candidates), explore.epsilon, seed)
        logit = logit[drawn]
    remaining = order = free[drawn]
    if rules.max_per_author is not None or rules.max_per_tag is not None:
        remaining, limited = limit(rules, order, groups, list(pinned))
        applied += limited
    shown = remaining
    if rules.pin:
        positioned, done = pin(remaining.tolist(), pinned, missing, candidates.video_id)
        shown = np.array(positioned, np.intp)
        applied.append(done)
    explored = None
    if explore is not None:
        rounds = possible_rounds(rules, order, remaining, groups, list(pinned))
        is_chosen = np.zeros(len(candidates), np.bool_)
        is_chosen[remaining] = True
        propensity = np.ones(len(candidates))  # of pinned ones it stays so
        propensity[remaining] = propensities(logit, rounds, np.flatnonzero(is_chosen[order]), explore.epsilon)
        explored = Explored(explore, propensity[shown], discounted_loss(score, best, drawn, length))
    return Arrangement(shown, applied if has_rules else None, explored)
