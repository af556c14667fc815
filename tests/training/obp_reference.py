"""Values of obp 0.4.1 on the sample of the Open Bandit Dataset that it ships with.

obp needs releases of numpy and pandas that this project cannot have. In an environment of its own:

    pip install obp==0.4.1 && python tests/training/obp_reference.py > tests/training/obp_reference.json

The policy to evaluate and the model of rewards are formulas, so that both sides can compute them.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

from models.arrays import F64, I64

POLICIES = ("random", "bts")
CAMPAIGNS = ("all", "men", "women")
SWITCH = 5.0


def target_policy(items: int) -> F64:
    """`[items, 3]` probabilities of each item at each position."""
    odds = np.exp(np.cos(np.arange(items)[:, None] * np.arange(1, 4)))
    out: F64 = odds / odds.sum(axis=0)
    return out


def predicted_reward(items: int) -> F64:
    """`[items, 3]` expected clicks of each item at each position."""
    out: F64 = 0.004 + 0.003 * np.sin(np.arange(items)[:, None] + np.arange(3))
    return out


def main() -> None:
    import obp  # type: ignore[import-not-found]
    from obp import ope

    sample = Path(obp.__file__).parent / "dataset" / "obd"
    values: dict[str, dict[str, float]] = {}
    for policy in POLICIES:
        for campaign in CAMPAIGNS:
            with (sample / policy / campaign / f"{campaign}.csv").open() as file:
                rows = sorted(csv.DictReader(file), key=lambda row: row["timestamp"])
            action: I64 = np.array([int(row["item_id"]) for row in rows])
            items = int(action.max()) + 1
            whole = (len(rows), items, 3)
            log = {
                "reward": np.array([float(row["click"]) for row in rows]),
                "action": action,
                "position": np.array([int(row["position"]) - 1 for row in rows]),
                "pscore": np.array([float(row["propensity_score"]) for row in rows]),
                "action_dist": np.broadcast_to(target_policy(items), whole).copy(),
            }
            predicted = {"estimated_rewards_by_reg_model": np.broadcast_to(predicted_reward(items), whole)}
            values[f"{policy}_{campaign}"] = {
                "ips": ope.InverseProbabilityWeighting().estimate_policy_value(**log),
                "snips": ope.SelfNormalizedInverseProbabilityWeighting().estimate_policy_value(**log),
                "dr": ope.DoublyRobust().estimate_policy_value(**log, **predicted),
                "switch_dr": ope.SwitchDoublyRobust(tau=SWITCH).estimate_policy_value(**log, **predicted),
            }
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
