"""A real pair of policies: each one's clicks against the estimate of them from the other's log."""

# Shape suffixes: N rows, I items, K positions.

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from models.arrays import F64
from models.errors import BadInput
from training.off_policy import Overlap, clipped, estimate, ips, position_weights, snips, support

CAMPAIGNS: Final = ("all", "men", "women")
POLICIES: Final = ("random", "bts")
"""Uniformly random, and Thompson sampling."""
CLIP: Final = 20.0
PER_MILLE: Final = 1000.0
"""Clicks are counted per 1,000 impressions."""


def open_bandit(folder: Path, resamples: int) -> list[dict[str, Any]]:
    """Estimate each policy of the Open Bandit Dataset from the other's log.

    Thompson sampling's probabilities change with time, and the log has only those of the shown items. As a
    target it is therefore its average over time: the shares of the items in its log. Rows are resampled,
    since the data names no users.

    Args:
        folder: holds `random_all.parquet`, `bts_all.parquet` and the same of the other campaigns.
        resamples: of each bootstrap.

    Returns:
        A row for each campaign and direction: the `truth`, the `overlap` of plain and clipped weights,
        `estimates` by estimator, and the estimators whose interval holds the truth (`covered_by`).

    Raises:
        BadInput: a file is missing.

    Source: Saito, Aihara, Matsutani & Narita, NeurIPS 2021.
    """
    rows = []
    for campaign in CAMPAIGNS:
        logs = {policy: _read(folder / f"{policy}_{campaign}.parquet") for policy in POLICIES}
        items = 1 + max(int(log["item_id"].to_numpy().max()) for log in logs.values())
        shares = {"random": np.full((items, 3), 1 / items), "bts": _shares(logs["bts"], items)}
        for logged, wanted in (POLICIES, POLICIES[::-1]):
            row = _direction(logs[logged], shares[wanted], shares[logged], resamples)
            truth = PER_MILLE * float(logs[wanted]["click"].to_numpy().mean())
            intervals = {name: one["interval"] for name, one in row["estimates"].items()}
            covered_by = [name for name, (low, high) in intervals.items() if low <= truth <= high]
            direction = {"campaign": campaign, "logged": logged, "wanted": wanted}
            rows.append(direction | {"truth": truth, "covered_by": covered_by} | row)
    return rows


def _direction(log: pl.DataFrame, target_IK: F64, logging_IK: F64, resamples: int) -> dict[str, Any]:
    index = log["item_id"].to_numpy(), log["position"].to_numpy() - 1
    reward_N1 = PER_MILLE * log["click"].to_numpy()[:, None]
    weight_N1 = position_weights(target_IK[index], log["propensity_score"].to_numpy())[:, None]
    share = support(target_IK.T[None], logging_IK.T[None], floor=1 / len(log))
    row_N = np.arange(len(log))
    weights = {"plain": weight_N1, "clipped": clipped(weight_N1, CLIP)}
    overlaps = {name: Overlap.of_weights(weight, share) for name, weight in weights.items()}
    terms = {
        "IPS": ips(reward_N1, weight_N1),
        "SNIPS": snips(reward_N1, weight_N1),
        "SNIPS clipped": snips(reward_N1, weights["clipped"]),
    }
    found = {name: estimate(one, row_N, resamples=resamples) for name, one in terms.items()}
    return {
        "overlap": {name: asdict(one) | {"refusal": one.refusal} for name, one in overlaps.items()},
        "estimates": {
            name: {"value": one.value, "interval": list(one.interval)} for name, one in found.items()
        },
    }


def _shares(log: pl.DataFrame, items: int) -> F64:
    """Return how often each item was shown at each position, `[I, K]`."""
    count_IK = np.zeros((items, 3))
    np.add.at(count_IK, (log["item_id"].to_numpy(), log["position"].to_numpy() - 1), 1.0)
    out: F64 = count_IK / count_IK.sum(axis=0)
    return out


def _read(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise BadInput(f"{path} is missing; give a folder with the sample of the Open Bandit Dataset.")
    return pl.read_parquet(path)
