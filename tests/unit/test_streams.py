"""What was printed where, out of one log: the runner marks it, the client tells it apart."""

from __future__ import annotations

import pickle

import pytest
from kinetic_flows.runner_image.runner import marks
from kinetic_flows.runner_image.runner.marks import HIDDEN, Marker, Record

from kinetic_flows.core import streams
from kinetic_flows.core.streams import EntryReader, LogEntry, PrintedLine, StreamDecoder, shown_text


def _log() -> bytes:
    marker = Marker()
    return b"".join(
        [
            marker.stdout(b"one\nhal"),
            marker.stderr(b"\r10%"),
            marker.stderr("\r20% é".encode()),
            marker.stdout(b"f\n"),
            marker.record(Record(HIDDEN, 20, 0, "app", "quiet\n")),
            marker.record(Record("stderr", 40, 10, "app", "ERROR:app:first\nsecond\n")),
            marker.stderr(b"\r30%\nlast\n\n"),
            marker.record(Record("stdout", 30, 0, "app.sub", "told\n")),
            marker.stdout(b"\x1b[31mred\x1b[0m\n"),
            marker.stdout(b"end"),
        ]
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 11, 1000])
def test_a_log_is_told_apart_wherever_it_is_cut(size: int) -> None:
    log, decoder = _log(), StreamDecoder()
    pieces = [
        piece for at in range(0, len(log), size) for piece in decoder.take(log[at : at + size])
    ]
    pieces += decoder.end()

    def text(where: str) -> str:
        return "".join(piece.text for piece in pieces if piece.where == where)

    assert text("stdout") == "one\nhalf\ntold\n\x1b[31mred\x1b[0m\nend"
    assert text("stderr") == "\r10%\r20% éERROR:app:first\nsecond\n\r30%\nlast\n\n"
    assert text("hidden") == "quiet\n"


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_its_entries_are_lines_and_whole_records(size: int) -> None:
    log, reader = _log(), EntryReader()
    entries = [
        entry for at in range(0, len(log), size) for entry in reader.take(log[at : at + size])
    ]
    entries += reader.end()
    assert [(entry.logger, entry.level, entry.text) for entry in entries] == [
        ("kinetic", 20, "one"),
        ("kinetic", 20, "half"),
        ("app", 20, "quiet"),
        ("app", 40, "first\nsecond"),
        ("kinetic.stderr", 20, "30%"),
        ("kinetic.stderr", 20, "last"),
        ("kinetic.stderr", 20, ""),
        ("app.sub", 30, "told"),
        ("kinetic", 20, "\x1b[31mred\x1b[0m"),
        ("kinetic", 20, "end"),
    ]


def test_a_log_read_from_its_middle_is_understood_from_the_next_line_on() -> None:
    marker = Marker()
    log = marker.stdout(b"lost\n") + marker.stderr(b"cut\nwhole\n") + marker.stdout(b"out\n")
    pieces = StreamDecoder().take(log[log.index(b"cut") :])
    assert [(piece.where, piece.text) for piece in pieces] == [
        ("stdout", "cut\n"),
        ("stderr", "whole\n"),
        ("stdout", "out\n"),
    ]


def test_what_an_older_runner_has_printed_is_standard_output() -> None:
    assert (
        shown_text(b"plain \xff\n\x1b[1mbold\x1b[0m \x1b")
        == "plain \ufffd\n\x1b[1mbold\x1b[0m \x1b"
    )
    assert StreamDecoder().take(b"plain")[0].where == "stdout"


@pytest.mark.parametrize(
    "entry",
    [
        LogEntry(text="printed"),
        LogEntry(text="printed", logger=streams.STDERR_LOGGER),
        LogEntry(text="two\nlines", level=40, logger="my.app"),
        LogEntry(text="Traceback", level=40, logger=streams.TRACEBACK_LOGGER),
    ],
)
def test_an_entry_of_prefect_s_log_is_read_as_if_it_came_from_the_process(entry: LogEntry) -> None:
    assert EntryReader().take(entry.encoded()) == [entry]


def test_a_record_is_shown_as_python_would_show_it() -> None:
    entry = LogEntry(text="diverged\nat 3", level=30, logger="my.app")
    assert entry.lines() == ["WARNING:my.app:diverged", "at 3"]
    assert {line.stream for line in entry.lines()} == {"stderr"}
    assert LogEntry(text="printed").lines()[0].stream == "stdout"


def test_a_line_keeps_its_stream_when_it_is_pickled() -> None:
    line = pickle.loads(pickle.dumps(PrintedLine("text", "stderr")))
    assert (line, line.stream) == ("text", "stderr")


def test_both_sides_know_the_same_loggers() -> None:
    assert [
        (streams.STDOUT_LOGGER, streams.STDERR_LOGGER),
        (streams.RUNNER_LOGGER, streams.TRACEBACK_LOGGER),
        streams.RESULT_LOGGER,
    ] == [
        (marks.STDOUT_LOGGER, marks.STDERR_LOGGER),
        (marks.RUNNER_LOGGER, marks.TRACEBACK_LOGGER),
        marks.RESULT_LOGGER,
    ]


def test_a_logger_s_name_cannot_break_a_log() -> None:
    record = marks.decoded_record(
        Record("stderr", 30, 0, "a;b\nc\x07" + "d" * 500, "m\n").encoded()
    )
    entries = EntryReader().take(Marker().record(record) + b"next\n")
    assert [entry.text for entry in entries] == ["m", "next"]
    assert entries[0].logger.startswith("a_b_c_ddd")
