"""What an assembler elsewhere prints, read back."""

from __future__ import annotations

import pytest

from kinetic_flows.core.errors import ImageError, KineticError
from kinetic_flows.images.assembly.remote_words import (
    as_from_elsewhere,
    failure_in,
    failure_lines,
    progress_in,
    progress_line,
    warning_in,
)


@pytest.mark.parametrize(
    "error",
    [
        ImageError("a wheel is refused", hint="lock again"),
        ImageError("several lines\n  of one message\n\nand its end", hint="one\ntwo"),
        ImageError("nothing can be done"),
    ],
)
def test_a_failure_is_read_as_it_was_said(error: KineticError) -> None:
    lines = ["Collecting httpx", progress_line("making numpy"), *failure_lines(error), "the end"]
    assert failure_in(lines) == (error.message, error.hint or "")


def test_output_without_a_failure_tells_of_none() -> None:
    assert failure_in(["kinetic: all is well", "kinetic hint: of nobody", ""]) is None


def test_progress_is_told_from_everything_else() -> None:
    assert progress_in(progress_line("3 of 4 layers")) == "3 of 4 layers"
    for line in ("kinetic error: no", "kinetic hint: no", "Collecting kinetic: 1", ""):
        assert progress_in(line) is None


def test_a_warning_is_told_from_other_lines_wherever_it_was_said() -> None:
    elsewhere = f"Step #1: {progress_line('warning: a needs b')}"
    assert warning_in(elsewhere) == "a needs b"
    assert warning_in(as_from_elsewhere("warning: a needs b")) == "a needs b"
    assert as_from_elsewhere("layer a: 3 MB sent") == "layer a: 3 MB sent"
    for line in (
        "warning: of uv's",
        progress_line("no warning: this"),
        "kinetic error: warning: x",
    ):
        assert warning_in(line) is None
