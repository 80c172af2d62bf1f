"""Answers to the questions of `kinetic build-image`, kept when something else turns out missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from kinetic_flows.cli import build_image_report
from kinetic_flows.cli.questions import confirmed
from kinetic_flows.core.display import for_terminal
from kinetic_flows.core.errors import KineticError

if TYPE_CHECKING:
    from kinetic_flows.flows.build_image import BuildImageParameters

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What was answered, which is not asked again because something else is missing.

    Attributes:
        parameters: The answers.
        were_asked: Whether they were; else they are from the command line.
    """

    parameters: BuildImageParameters
    were_asked: bool

    def kept(self, step: Callable[[], T]) -> T:
        """Return what a step returns; one that fails may be tried again.

        Raises:
            KineticError: It failed, and nobody was asked.
            SystemExit: It failed, and is not to be tried again.
        """
        while True:
            try:
                return step()
            except KineticError as error:
                if not self.were_asked:
                    raise
                build_image_report.say(for_terminal(f"kinetic: {error}"))
                self._ask_whether_to_go_on(error)

    def print_command(self) -> None:
        """Print the command that needs no answers, if they were asked for."""
        if self.were_asked:
            build_image_report.print_command(self.parameters)

    def _ask_whether_to_go_on(self, error: KineticError) -> None:
        goes_on = False
        try:
            goes_on = confirmed("Try again with the same answers?", undone="nothing was built")
        finally:
            if not goes_on:
                self.print_command()
        if not goes_on:
            raise SystemExit(error.exit_code) from None
