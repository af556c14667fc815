"""What of a log is likely to make a fit disappointing, one sentence each."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Final

from models.schema import EXPLICIT, FLAGS
from training.check.profile import Profile

FEW_ROWS: Final = 5
"""Rows up to which a user's sequence says little, and no slate can be chosen."""
FEW_SUCH_USERS: Final = 0.2
"""Share of the rows, of users with more."""
MANY_DROPPED: Final = 0.1
MANY_UNKNOWN: Final = 0.5
MANY_SUCH_ROWS: Final = 0.05
"""Share of rows from which on a sign of a wrong clock counts."""
QUIET_DAY: Final = 0.1
"""Rows of a day relative to the median day."""


def warnings_of(profile: Profile) -> Iterator[str]:
    """Yield the warnings, the gravest first."""
    lost = sum(profile.dropped.values())
    if lost > MANY_DROPPED * (lost + profile.rows):
        yield f"{lost / (lost + profile.rows):.0%} of the rows were dropped; see why above."
    yield from _of_clocks(profile)
    yield from _of_users(profile)
    yield from _of_feedback(profile)
    if profile.main_tab is not None and profile.main_tab not in profile.tabs:
        yield f"The main tab {profile.main_tab!r} has no rows; there are {', '.join(profile.tabs) or 'none'}."
    elif len(profile.tabs) == 1:
        yield f"All rows with a tab are of tab {next(iter(profile.tabs))!r}: nothing is learned of others."
    elif profile.main_tab is None and len(profile.tabs) > 1:
        yield "No main tab is set: watch time is fitted and evaluated on all tabs together (`--main-tab`)."
    for name, known in (("author", profile.known_author), ("tag", profile.known_tag)):
        if known < 1 - MANY_UNKNOWN:
            yield f"{1 - known:.0%} of the rows have no {name}."


def _of_clocks(profile: Profile) -> Iterator[str]:
    median = statistics.median(day.rows for day in profile.days)
    empty = [day.date for day in profile.days if not day.rows]
    quiet = [day.date for day in profile.days[1:-1] if 0 < day.rows < QUIET_DAY * median]
    for dates, what in ((empty, "no rows"), (quiet, f"less than {QUIET_DAY:.0%} of the median day's rows")):
        if dates:
            more = f" and {len(dates) - 3} more" if len(dates) > 3 else ""
            days = "day has" if len(dates) == 1 else "days have"
            yield (
                f"{len(dates)} {days} {what}: {', '.join(dates[:3])}{more}. "
                "Did the clock jump, or the export stop?"
            )
    if profile.signs.same_time > MANY_SUCH_ROWS:
        yield (
            f"{profile.signs.same_time:.0%} of the rows have the same time as another of the user, so their "
            "order is unknown: are times those of uploads, or rounded?"
        )
    if profile.signs.overlapping > MANY_SUCH_ROWS:
        yield (
            f"{profile.signs.overlapping:.0%} of the rows end a minute or more after the user's next one "
            "began: are times those of the end, or watch times in another unit?"
        )


def _of_users(profile: Profile) -> Iterator[str]:
    more = [group for group in profile.user_groups if group.name not in ("1", f"2-{FEW_ROWS}")]
    rows, users = sum(group.rows for group in more), sum(group.users for group in more)
    if rows < FEW_SUCH_USERS * profile.rows or users < FEW_SUCH_USERS * profile.users:
        yield (
            f"Few users have more than {FEW_ROWS} rows: {users:,} of {profile.users:,}, with "
            f"{rows / profile.rows:.0%} of the rows. Labels are learned from these alone."
        )
    if profile.signs.only_row_of_video > MANY_UNKNOWN:
        yield f"{profile.signs.only_row_of_video:.0%} of the rows are the only one of their video."


def _of_feedback(profile: Profile) -> Iterator[str]:
    never = [name for name in FLAGS if not profile.feedback[name]]
    if set(EXPLICIT) <= set(never):
        yield "No row has explicit feedback: labels and objectives that need it are left out."
    elif never:
        yield f"No row has {', '.join(never)}: nothing is learned of it."
    always = [name for name in FLAGS if profile.feedback[name] > MANY_UNKNOWN]
    if always:
        yield f"More than half of the rows have {', '.join(always)}: is it the right column?"
    signs = profile.signs
    if signs.exactly_the_duration > 0 and not signs.more_than_watched_once:
        yield "No video was watched for longer than it is: are replays counted, or watch times clipped?"
