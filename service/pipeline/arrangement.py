"""The order in which a slate is shown, if not that of the scores: rules, in the order in which they apply.

1. `exclude_seen`, `exclude_hated` leave candidates out, pinned ones too.
2. `fresh_boost`, `author_decay`, `diversity` change the values that sort; pinned candidates take no part.
3. `max_per_author`, `max_per_tag` leave candidates out from the top; pinned ones count.
4. `pin` puts candidates at their positions.
5. `top_k` cuts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.pipeline.ranking import RankingContext, Slate
from service.pipeline.rules import Groups, adjust, exclude, limit, pin
from service.slate_rules import Applied, Rules


@dataclass(frozen=True, slots=True)
class Arrangement:
    """An order of a slate that rules have made."""

    order: npt.NDArray[np.intp]
    """Indices of the candidates that are left, best first."""
    applied: list[Applied]
    """What each rule did, in the order in which they applied."""


def arrange(slate: Slate, context: RankingContext, rules: Rules, *, has_history: bool) -> Arrangement:
    """Order a slate by rules.

    Args:
        slate: scored.
        context: what was ranked; with publication times, if there is a `fresh_boost`.
        rules: of the request, which `check_pins` has passed.
        has_history: whether the store could be read.
    """
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
    values = slate.score[free].astype(np.float64)
    groups = Groups.from_candidates(candidates)
    published_ms = [candidates.published_ms[i] for i in stays] if rules.fresh_boost else ()
    values, adjusted = adjust(rules, values, groups.take(free), published_ms, context.now_ms)
    applied += adjusted
    order = free[np.argsort(-values, kind="stable")]
    if rules.max_per_author is not None or rules.max_per_tag is not None:
        order, limited = limit(rules, order, groups, list(pinned))
        applied += limited
    if rules.pin:
        positioned, done = pin(order.tolist(), pinned, missing, candidates.video_id)
        order = np.array(positioned, np.intp)
        applied.append(done)
    return Arrangement(order, applied)
