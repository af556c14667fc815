"""Progress where there is no terminal."""

from __future__ import annotations

from training.progress import EVERY_S, Lines


def test_a_stage_has_a_line_every_ten_seconds_and_one_at_its_end() -> None:
    now, lines = 0.0, list[str]()
    display = Lines(lines.append, lambda: now)
    for second in range(41):
        now = float(second)
        if second == 15:
            display.epoch("1/2 ranker", 0, {"loss": 2.5, "stop_error": 6.25, "mae_s": 6.25, "xauc": 0.6})
        display("1/2 ranker", second / 40)
    display("1/2 ranker", 1.0)
    assert EVERY_S == 10
    assert lines == [
        "1/2 ranker: 25%, 30 s left",
        "1/2 ranker: 50%, 20 s left, epoch 1: loss 2.5, stop_error 6.25, mae_s 6.25",
        "1/2 ranker: 75%, 10 s left, epoch 1: loss 2.5, stop_error 6.25, mae_s 6.25",
        "1/2 ranker: 100%, 40 s, epoch 1: loss 2.5, stop_error 6.25, mae_s 6.25",
    ]


def test_minutes_are_written_as_minutes() -> None:
    now, lines = 0.0, list[str]()
    display = Lines(lines.append, lambda: now)
    display("label", 0.0)
    now = 70.0
    display("label", 0.25)
    assert lines == ["label: 25%, 3 min 30 s left"]
