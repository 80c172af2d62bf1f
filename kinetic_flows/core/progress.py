"""What the pipeline says while it works.

The library itself shows nothing: a terminal, a notebook or a test listens through this protocol.
"""

from __future__ import annotations

from typing import Literal, Protocol

StepStatus = Literal["started", "done", "passed", "cached", "interrupted", "failed"]
"""How a step is: `done` did real work, `passed` what every call does, `cached` found it done."""

Outcome = Literal["done", "launched", "negative", "cancelled", "failed"]
"""How a call ended for the program that made it; `negative`: well, with a bad answer."""

ProgressMode = Literal["auto", "quiet", "plain", "rich", "verbose"]
"""How a call is shown: the setting `KINETIC_PROGRESS`."""

Stream = Literal["stdout", "stderr"]
"""Where a function wrote what it printed."""


class Progress(Protocol):
    """A listener to the progress of one call; every method may be called from any thread."""

    def begin(self, title: str) -> None:
        """The call began, or its title became known: `train(rate=0.1) on cpu`."""
        ...

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

    def aside(self, text: str) -> None:
        """Something worth knowing where there is something to tell anyway."""
        ...

    def notice(self, text: str) -> None:
        """Something worth knowing."""
        ...

    def warning(self, text: str) -> None:
        """Something that may not be what the person wants."""
        ...

    def launched(self, url: str, how: str = "") -> None:
        """The call has a run, which has a page; `how` tells in a few words more than that."""
        ...

    def output(self, text: str, stream: Stream) -> None:
        """The function printed something; the text may hold several lines or part of one."""
        ...

    def end(self, outcome: Outcome) -> None:
        """The call ended."""
        ...


class NullProgress:
    """A listener that shows nothing."""

    def begin(self, title: str) -> None:
        """Ignore a call."""

    def step(self, name: str, status: StepStatus, detail: str = "") -> None:
        """Ignore a step."""

    def count(self, name: str, done: int, total: int | None, detail: str) -> None:
        """Ignore how far a step is."""

    def activity(self, name: str, text: str) -> None:
        """Ignore what a step is doing."""

    def log(self, name: str, line: str) -> None:
        """Ignore a line."""

    def aside(self, text: str) -> None:
        """Ignore an aside."""

    def notice(self, text: str) -> None:
        """Ignore a notice."""

    def warning(self, text: str) -> None:
        """Ignore a warning."""

    def launched(self, url: str, how: str = "") -> None:
        """Ignore a run."""

    def output(self, text: str, stream: Stream) -> None:
        """Ignore output."""

    def end(self, outcome: Outcome) -> None:
        """Ignore an end."""


class LabelledProgress:
    """Passes on what goes on at the same time as other steps of the same names.

    Args:
        progress: Who watches.
        label: What its steps are for.
    """

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label
        # What is no step's is passed on as it is.
        self.begin, self.end = progress.begin, progress.end
        self.aside, self.notice, self.warning = progress.aside, progress.notice, progress.warning
        self.launched, self.output = progress.launched, progress.output

    def step(self, name: str, status: StepStatus, detail: str = "") -> None:
        """Pass a step on."""
        self._progress.step(self._named(name), status, detail)

    def count(self, name: str, done: int, total: int | None, detail: str) -> None:
        """Pass on how far a step is."""
        self._progress.count(self._named(name), done, total, detail)

    def activity(self, name: str, text: str) -> None:
        """Pass on what a step is doing."""
        self._progress.activity(self._named(name), text)

    def log(self, name: str, line: str) -> None:
        """Pass a line on."""
        self._progress.log(self._named(name), line)

    def _named(self, name: str) -> str:
        return f"{name} for {self._label}"
