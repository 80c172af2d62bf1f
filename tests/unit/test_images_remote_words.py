"""What an assembler elsewhere prints, read back."""

from __future__ import annotations

import pytest

from kinetic_flows.core.errors import ImageError, KineticError
from kinetic_flows.images.assembly.remote_words import (
    failure_in,
    failure_lines,
    progress_in,
    progress_line,
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
