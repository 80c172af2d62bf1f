"""Asking whoever sits at the terminal, and what happens where nobody does."""

from __future__ import annotations

import sys

from kinetic_flows.core.errors import UsageError


def is_terminal() -> bool:
    """Whether somebody can be asked: a question is read from one end and shown at the other."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def confirmed(question: str, *, undone: str, option: str = "--yes") -> bool:
    """Ask for a yes.

    Args:
        question: What to ask.
        undone: What is said to have not happened where nobody can be asked.
        option: What says yes beforehand.

    Raises:
        UsageError: There is no terminal to ask at.
        KeyboardInterrupt: The person pressed Ctrl-C.
    """
    if not is_terminal():
        raise UsageError(
            f"{undone}: it has to be confirmed, and there is no terminal to ask",
            hint=f"give {option}",
        )
    import questionary

    return bool(questionary.confirm(question, default=False).unsafe_ask())
