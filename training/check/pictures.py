"""The pictures of `data.md`."""

from __future__ import annotations

from pathlib import Path

from training.check.profile import Profile
from training.experiments.plots import BLUE, GREY, ORANGE, Series, small_multiples


def draw(folder: Path, profile: Profile) -> tuple[str, ...]:
    """Draw the pictures into a folder.

    Returns:
        Their names, without `.png`.
    """
    _bars(
        folder / "days.png",
        {"rows": [day.rows for day in profile.days], "users": [day.users for day in profile.days]},
        "Rows and users a day",
        "day",
        [day.date[5:] for day in profile.days] if len(profile.days) <= 31 else [],
    )
    _bars(
        folder / "users.png",
        {
            "share of users": [group.users / profile.users for group in profile.user_groups],
            "share of rows": [group.rows / profile.rows for group in profile.user_groups],
        },
        "Users by their rows",
        "rows of the user",
        [group.name for group in profile.user_groups],
    )
    groups = profile.duration_groups
    x = list(range(len(groups)))
    small_multiples(
        folder / "durations.png",
        {
            "watch ratio": [
                Series(x, [group.p10 for group in groups], GREY, label="p10"),
                Series(x, [group.median for group in groups], BLUE, label="median"),
                Series(x, [group.p90 for group in groups], ORANGE, label="p90"),
            ],
            "share of rows": [Series(x, [group.rows / profile.rows for group in groups], BLUE, "bar")],
        },
        "Watch ratio by duration",
        ("duration, s", ""),
        size=(4.2, 2.6),
        ticks=[group.name for group in groups],
        shared_y=False,
    )
    _bars(
        folder / "feedback.png",
        {"share of rows": list(profile.feedback.values())},
        "Feedback",
        "",
        list(profile.feedback),
    )
    return "days", "users", "durations", "feedback"


def _bars(
    path: Path,
    panels: dict[str, list[float]] | dict[str, list[int]],
    title: str,
    label: str,
    ticks: list[str],
) -> None:
    small_multiples(
        path,
        {name: [Series(range(len(y)), y, BLUE, "bar")] for name, y in panels.items()},
        title,
        (label, ""),
        size=(4.2, 2.6),
        ticks=ticks,
        shared_y=False,
    )
