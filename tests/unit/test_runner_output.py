"""Cutting output into lines."""

from __future__ import annotations

import json

import pytest
from kinetic_flows.runner_image.runner import output
from kinetic_flows.runner_image.runner.output import MAX_LINE_CHARACTERS, LineSplitter
from kinetic_flows.runner_image.runner.reporter import MAX_MESSAGE_BYTES, fitting_pieces


def _lines(*pieces: bytes) -> list[str]:
    lines: list[str] = []
    splitter = LineSplitter(lines.append)
    for piece in pieces:
        splitter.feed(piece)
    splitter.close()
    return lines


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"on", b"e\ntw", b"o"], ["one", "two"]),
        ([b"\n\nx\n"], ["", "", "x"]),
        ([b"dos\r\nends\r\n"], ["dos", "ends"]),
        ([b"dos\r", b"\nends\r\n"], ["dos", "ends"]),
        ([b"\r1%\r2%\r", b"3%\nnext"], ["3%", "next"]),
        ([b"1%\r2%\r"], ["2%"]),
        ([b"\xc3", b"\xa9\n"], ["é"]),
        ([b"\xff\n\xc3"], ["\ufffd", "\ufffd"]),
        ([], []),
        ([b"\n"], [""]),
    ],
)
def test_output_is_cut_where_lines_end(pieces: list[bytes], lines: list[str]) -> None:
    assert _lines(*pieces) == lines


def test_a_line_without_end_is_cut() -> None:
    lines = _lines(*[b"x" * 10_000] * 20, b"\n")
    assert "".join(lines) == "x" * 200_000
    assert max(map(len, lines)) <= MAX_LINE_CHARACTERS


def test_a_progress_bar_without_end_takes_no_memory() -> None:
    assert _lines(*[b"\r" + b"#" * 1000] * 500, b"\rdone") == ["done"]


def test_an_unfinished_line_is_shown_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "STALE_SECONDS", -1.0)
    lines: list[str] = []
    splitter = LineSplitter(lines.append)
    splitter.feed(b"\r10%\r20%")
    assert lines == ["20%"]
    splitter.feed(b"\rwaiting")
    splitter.tick()
    splitter.close()
    assert lines == ["20%", "waiting"]


@pytest.mark.parametrize("text", ["", "short", "x" * 60_000, "é" * 30_000, "\x01\U0001f600" * 9000])
def test_a_message_is_cut_to_what_prefect_takes(text: str) -> None:
    pieces = fitting_pieces(text)
    assert "".join(pieces) == text
    assert max(len(json.dumps(piece)) for piece in pieces) <= MAX_MESSAGE_BYTES
