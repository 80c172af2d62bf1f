"""Questions at the terminal, and what happens without one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from kinetic_flows.core.errors import KineticError, UsageError
from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    import questionary as questionary
else:
    questionary = LazyModule("questionary")


def is_terminal() -> bool:
    """Whether there is a terminal at both ends: to show a question, and to read its answer."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def confirmed(question: str, *, undone: str) -> bool:
    """Ask for a yes.

    Args:
        question: What to ask.
        undone: What is said to have not happened where there is no terminal.

    Raises:
        UsageError: There is no terminal to ask at.
        KeyboardInterrupt: The person pressed Ctrl-C.
    """
    if not is_terminal():
        raise UsageError(
            f"{undone}: it has to be confirmed, and there is no terminal to ask",
            hint="give --yes",
        )
    # Standard output may lead elsewhere: `--json | jq`.
    with redirect_stdout(sys.stderr):
        return bool(questionary.confirm(question, default=False).unsafe_ask())


def asked_text(question: str, default: str, accept: Callable[[str], object]) -> str:
    """Ask for a text until it is one that can be.

    Args:
        question: What to ask.
        default: What is offered.
        accept: Raises a `KineticError` for a text that cannot be.

    Raises:
        KeyboardInterrupt: The person pressed Ctrl-C.
    """
    answer: str = questionary.text(
        question, default=default, validate=validator(accept)
    ).unsafe_ask()
    return answer.strip()


def validator(accept: Callable[[str], object]) -> Callable[[str], Any]:
    """Return a check in questionary's terms: True, or what is wrong."""

    def validate(text: str) -> bool | str:
        try:
            accept(text.strip())
        except KineticError as error:
            return error.hint or error.message
        return True

    return validate
