"""Finds the shifts of a catalogue file: each bucket's gives all of its entries slots of their own."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from models.arrays import I64
from service.catalogue.layout import U16, U32, U64, buckets_of, slots_of

A_BUCKET: Final = 4
"""Entries of a bucket, on average. More make the file smaller by little and its making slower by much."""

LOAD: Final = 0.8
"""Share of the slots that is taken in the end."""

SHIFTS: Final = 1 << 16
"""As many are tried for a bucket."""


def sizes(entries: int) -> tuple[int, int]:
    """How many buckets and slots so many entries need."""
    return entries // A_BUCKET + 1, int(entries / LOAD) + 2


def arranged(hashes: U64, places: U32, buckets: int, slots: int) -> tuple[U16, U32] | None:
    """The shift of each bucket and the place in each slot.

    The fullest buckets come first, while most slots are free. All buckets of one size try a shift at the
    same time; those whose slots are free and of which no other has taken one in the same moment keep it.

    Args:
        hashes: ascending, each once.
        places: in the same order.
        buckets, slots: as `sizes` has them.

    Returns:
        `None` if there is no such shift for some bucket.
    """
    shifts, table = np.zeros(buckets, np.uint16), np.zeros(slots, np.uint32)
    homes = buckets_of(hashes, buckets)
    counts = np.bincount(homes, minlength=buckets)
    begins = np.cumsum(counts) - counts
    taker = np.empty(slots, np.int32)
    for size in range(int(counts.max(initial=0)), 0, -1):
        waiting: I64 = (counts == size).nonzero()[0]
        for shift in range(SHIFTS):
            if not len(waiting):
                break
            entries = begins[waiting][:, None] + np.arange(size)  # [buckets that wait, size]
            wanted = slots_of(hashes[entries], np.full(1, shift, np.uint16), slots)
            good = (table[wanted] == 0).all(1) & _different(wanted)
            wanted, entries = wanted[good], entries[good]
            ranks = np.arange(len(wanted), dtype=np.int32)[:, None]
            taker[wanted] = ranks
            won = (taker[wanted] == ranks).all(1)
            table[wanted[won]] = places[entries[won]]
            good[good.nonzero()[0][~won]] = False
            shifts[waiting[good]] = shift
            waiting = waiting[~good]
        if len(waiting):
            return None
    return shifts, table


def _different(rows: I64) -> npt.NDArray[np.bool_]:
    """Rows without a number that is there twice."""
    if rows.shape[1] == 1:
        return np.ones(len(rows), np.bool_)
    rows = np.sort(rows, axis=1)
    different: npt.NDArray[np.bool_] = (rows[:, 1:] != rows[:, :-1]).all(1)
    return different
