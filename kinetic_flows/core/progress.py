"""What the pipeline says while it works.

The library itself shows nothing: a terminal or a test listens through this protocol.
"""

from __future__ import annotations

from typing import Literal, Protocol

StepStatus = Literal["started", "done", "cached", "failed"]

Stream = Literal["stdout", "stderr"]
"""Where a function wrote what it printed."""


class Progress(Protocol):
    """A listener to the progress of one call; every method may be called from any thread."""

    def step(self, name: str, status: StepStatus, detail: str = "") -> None:
        """A step of the pipeline started or ended."""
        ...

    def count(self, name: str, done: int, total: int | None, detail: str) -> None:
        """A step that consists of many is so far; None when their number is not known."""
        ...

    def activity(self, name: str, text: str) -> None:
        """What a step is doing now, in a few words that take the place of the last ones."""
        ...

    def log(self, name: str, line: str) -> None:
        """A step's tool printed a line, such as one of a build's log."""
        ...

    def notice(self, text: str) -> None:
        """Something worth knowing."""
        ...

    def warning(self, text: str) -> None:
        """Something that may not be what the person wants."""
        ...

    def output(self, text: str, stream: Stream) -> None:
        """The function printed something; the text may hold several lines or part of one."""
        ...


class NullProgress:
    """A listener that shows nothing."""

    def step(self, name: str, status: StepStatus, detail: str = "") -> None:
        """Ignore a step."""

    def count(self, name: str, done: int, total: int | None, detail: str) -> None:
        """Ignore how far a step is."""

    def activity(self, name: str, text: str) -> None:
        """Ignore what a step is doing."""

    def log(self, name: str, line: str) -> None:
        """Ignore a line."""

    def notice(self, text: str) -> None:
        """Ignore a notice."""

    def warning(self, text: str) -> None:
        """Ignore a warning."""

    def output(self, text: str, stream: Stream) -> None:
        """Ignore output."""
