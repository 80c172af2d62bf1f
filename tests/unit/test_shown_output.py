"""What a waiting call shows of a run's output: its last traceback is the exception's to show."""

from __future__ import annotations

import logging

import pytest

from kinetic_flows.core.envelope import ResultEnvelope, ResultHeader, ResultStatus
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.core.progress import NullProgress, Stream
from kinetic_flows.core.streams import STDERR_LOGGER, TRACEBACK_LOGGER, LogEntry
from kinetic_flows.runs.wait import ShownOutput

TRACEBACK = LogEntry(
    text="Traceback (most recent call last):\n  ...\nValueError: 1",
    level=logging.ERROR,
    logger=TRACEBACK_LOGGER,
)
RETRY = LogEntry(text="kinetic: try 1 of 2 raised ValueError: 1", logger=STDERR_LOGGER)


class Shown(NullProgress):
    def __init__(self) -> None:
        self.text = ""

    def output(self, text: str, stream: Stream) -> None:
        self.text += text


def ended(status: ResultStatus, *entries: LogEntry, size: int = 10_000) -> tuple[str, list[str]]:
    """Return what is shown of a run, and the last lines that are remembered of it."""
    shown = Shown()
    output = ShownOutput(shown)
    data = b"".join(entry.encoded() for entry in entries)
    for at in range(0, len(data), size):
        part = data[at : at + size]
        output.take(Observation(phase=Phase.RUNNING, output=part, position=at + len(part)))
    output.end(ResultEnvelope(header=ResultHeader(run_id="run-1", status=status), body=b""))
    return shown.text, output.tail()


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_traceback_of_what_is_raised_here_is_left_to_it(size: int) -> None:
    text, tail = ended("raised", LogEntry(text="step 1"), TRACEBACK, size=size)
    assert text == "step 1\n"
    assert tail[-1] == "ValueError: 1"


def test_that_of_an_earlier_try_is_shown_in_its_place() -> None:
    text, _ = ended("raised", TRACEBACK, RETRY, TRACEBACK)
    assert text == f"{TRACEBACK.text}\n{RETRY.text}\n"


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_what_a_process_prints_at_its_end_does_not_have_it_shown_twice(size: int) -> None:
    at_exit = LogEntry(text="wandb: run finished", logger=STDERR_LOGGER)
    text, tail = ended("raised", TRACEBACK, at_exit, LogEntry(text="bye"), size=size)
    assert text == f"{at_exit.text}\nbye\n"
    assert tail[-3:] == ["ValueError: 1", at_exit.text, "bye"]


def test_an_earlier_one_is_shown_before_another() -> None:
    other = LogEntry(text="Traceback\nKeyError: 2", level=logging.ERROR, logger=TRACEBACK_LOGGER)
    assert ended("raised", other, TRACEBACK)[0] == f"{other.text}\n"


def test_the_last_characters_are_shown_though_a_mark_might_have_begun_with_them() -> None:
    shown = Shown()
    output = ShownOutput(shown)
    output.take(Observation(phase=Phase.RUNNING, output=b"done \x1b[", position=7))
    assert shown.text == "done "
    output.take(Observation(phase=Phase.SUCCEEDED, output=b"", position=7))
    assert shown.text == "done \x1b["


def test_that_of_what_is_not_raised_here_is_shown() -> None:
    text, _ = ended("crashed", TRACEBACK)
    assert text == f"{TRACEBACK.text}\n"


def test_that_of_a_run_whose_wait_is_interrupted_is_shown() -> None:
    shown = Shown()

    def wait() -> None:
        with ShownOutput(shown) as output:
            output.take(Observation(phase=Phase.RUNNING, output=TRACEBACK.encoded(), position=1))
            assert not shown.text
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait()
    assert shown.text == f"{TRACEBACK.text}\n"


def test_debugging_shows_it_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINETIC_DEBUG", "1")
    assert ended("raised", TRACEBACK)[0] == f"{TRACEBACK.text}\n"
