"""How durations are worded."""

from __future__ import annotations

import pytest

from kinetic_flows.core.moments import duration, elapsed


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (60, "1 min 0 s"),
        (182, "3 min 2 s"),
        (3900, "1 h 5 min"),
    ],
)
def test_a_length_of_time_is_said_as_exactly_as_matters(seconds: float, said: str) -> None:
    assert elapsed(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (600, "10 min"),
        (3600, "1 h"),
    ],
)
def test_durations_are_told_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_what_a_run_waits_for_is_told_in_whole_seconds() -> None:
    assert elapsed(6.2, tenths=False) == "6 s"
