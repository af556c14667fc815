"""Is a log in an order that a clock could have written?"""

from __future__ import annotations

from typing import Final

import polars as pl

from models.errors import BadInput

BY_USER: Final = 100
"""With fewer users than this, long runs of one user's rows say nothing of how a file is arranged."""


def check_order(log: pl.DataFrame, where: str) -> None:
    """Refuse a file in which a user's clock runs backwards.

    Rows are sorted by us anyway, so what is refused is not disorder but its likely causes: a shuffled
    file, shifted columns, files of several machines pasted together. Two arrangements pass:

    * every user's rows follow each other in time (a log as it was written, or sorted by time);
    * the file is arranged by user, as the authors' archive is, where the rows of one user lie together in
      no promised order. Told by runs: with at least `BY_USER` users, rows of the same user follow each
      other more often than not, which neither a log in time order nor a shuffled file does.

    Args:
        log: `user_id` and `time_ms` in the order of the file.
        where: its name, for the message.

    Raises:
        BadInput: names the first row that is earlier than one of the same user above it.
    """
    user = log["user_id"]
    above = log.select(pl.col("time_ms").shift(1).over("user_id").alias("above"))["above"]
    back = (log["time_ms"] < above).fill_null(False)
    row = back.arg_max()
    if row is None or not back[row]:
        return
    runs = 1 + int((user != user.shift(1)).fill_null(False).sum())
    if user.n_unique() >= BY_USER and 2 * runs < len(log):
        return
    raise BadInput(
        f"{where}, row {row + 1:,}: time goes backwards: user {user[row]} has {log['time_ms'][row]} after "
        f"{above[row]} ({int(back.sum()):,} such rows). Is the file shuffled? Sort it by time_ms."
    )
