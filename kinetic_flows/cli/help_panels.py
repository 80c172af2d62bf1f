"""How help shows options: those that are off until they are given have no way to say off."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help.formatters.default import DefaultFormatter
    from rich.console import Console, ConsoleOptions

SAY_NOTHING = ("False", "()", '""', "''", "None")
"""Defaults, as they are shown, that are no news."""


class HelpPanels:
    """Shows help as Cyclopts does, less what says nothing.

    An option that is off or empty by default needs neither its opposite nor that it is so.
    """

    @cached_property
    def _usual(self) -> DefaultFormatter:
        # It is imported for help alone.
        from cyclopts.help.formatters.default import DefaultFormatter

        return DefaultFormatter()

    def __call__(self, console: Console, options: ConsoleOptions, panel: Any) -> None:
        """Show a heading and the options or commands below it."""
        entries = [
            entry.copy(negative_names=(), negative_shorts=(), default=None)
            if entry.default in SAY_NOTHING
            else entry
            for entry in panel.entries
        ]
        self._usual(console, options, panel.copy(entries=entries))

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Show how a command is called."""
        self._usual.render_usage(console, options, usage)

    def render_description(
        self, console: Console, options: ConsoleOptions, description: Any
    ) -> None:
        """Show what a command does."""
        self._usual.render_description(console, options, description)
