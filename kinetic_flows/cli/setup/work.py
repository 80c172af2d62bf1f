"""What `kinetic init`, `up` and `down` have in common: compare, show, ask once, do, and tell."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kinetic_flows.cli.questions import confirmed
from kinetic_flows.cli.setup.report import several
from kinetic_flows.core.display import for_line
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.progress import Progress
from kinetic_flows.core.signals import cause_in_words, interruption_in
from kinetic_flows.core.terminal import shown_call
from kinetic_flows.platforms.gke.setup.compare import Compared
from kinetic_flows.platforms.gke.setup.model import Change, Stage, Step, Watch

STEP_LOOK = "look at what is there"


def changes_of(compared: Sequence[Compared]) -> tuple[Change, ...]:
    """Return what is to be done about everything, in order."""
    return tuple(change for each in compared for change in each.changes)


@contextmanager
def looking(progress: Progress) -> Iterator[None]:
    """Show that something is looked at, for the time of a block."""
    progress.step(STEP_LOOK, "started")
    try:
        yield
    finally:
        progress.step(STEP_LOOK, "passed")


@dataclass(kw_only=True)
class ShownSteps:
    """Shows the work on resources as steps of a call, and counts them.

    Attributes:
        progress: Who watches.
        total: How many resources are worked on.
        verb: What is done with them: `made`.
        done: How many are done.
        going_on: What Google has begun for us, and goes on with whoever waits for it.
    """

    progress: Progress
    total: int
    verb: str
    done: int = 0
    going_on: list[str] = field(default_factory=list)

    def __call__(self, step: Step) -> None:
        """Show a step."""
        name = f"{step.kind} {for_line(step.name)}"
        if step.state == "begun":
            self.going_on.append(name)
            self.progress.step(name, "started")
        elif step.state == "going":
            self.progress.activity(name, step.text)
        else:
            self.going_on.remove(name)
            self.done += step.state == "done"
            self.progress.step(name, step.state, step.text)

    def interrupted(self, cause: str, command: str) -> str:
        """Return the line for somebody who stops it half way.

        Args:
            cause: What stopped it: `Ctrl-C`.
            command: What goes on from here.
        """
        done = f"{self.done} of {several(self.total, 'thing')} {self.verb}"
        going = f", {', '.join(self.going_on)} begun" if self.going_on else ""
        return f"{cause}: {done}{going}; `{command}` goes on from here"


@contextmanager
def told_if_interrupted(steps: ShownSteps, command: str) -> Iterator[None]:
    """Say in a line, where the block is interrupted, what was done and how to go on.

    Args:
        steps: Knows what was done.
        command: What goes on from here.
    """
    try:
        yield
    except BaseException as error:
        cause = interruption_in(error)
        if cause is not None:
            print(f"kinetic: {steps.interrupted(cause_in_words(cause), command)}", file=sys.stderr)
        raise


def work_on(
    stages: Sequence[Stage],
    work: Callable[[Sequence[Stage], Watch], int],
    progress: Progress,
    *,
    title: str,
    verb: str,
    command: str,
) -> int:
    """Do what is to be done, shown as it goes on.

    Args:
        stages: What is to be done.
        work: Does it.
        progress: Who watches.
        title: What all of it is called.
        verb: What is done with each: `made`.
        command: What goes on from there, if it is stopped half way.

    Returns:
        How many things were done.

    Raises:
        KineticError: Some of it could not be done.
        KeyboardInterrupt: It was stopped.
    """
    total = sum(len(stage.resources) for stage in stages)
    steps = ShownSteps(progress=progress, total=total, verb=verb)
    with told_if_interrupted(steps, command), shown_call(progress, title):
        return work(stages, steps)


def require_agreement(question: str, undone: str, *, yes: bool) -> None:
    """Ask whether to do it, where `--yes` does not say so.

    Args:
        question: What to ask.
        undone: What is said to have not happened where they do not.
        yes: Whether `--yes` was given.

    Raises:
        KineticError: The person does not want it.
        UsageError: There is no terminal to ask at.
    """
    if not yes and not confirmed(question, undone=undone):
        raise KineticError(undone)
