"""Examples at the end of a command's help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cyclopts import App


def examples(*commands: str) -> str:
    """Return examples as a command's help shows them.

    Args:
        *commands: Lines as a person would type them, short enough not to be broken.
    """
    # In Markdown: code, so that nothing of it is taken for markup, and a line each.
    return "Examples:\n\n" + "  \n".join(f"`{command}`" for command in commands)


def add_examples(app: App, by_command: Mapping[str, Sequence[str]]) -> None:
    """Give the commands below one word their examples.

    Args:
        app: What stands for the word.
        by_command: The examples of each command.
    """
    for name, commands in by_command.items():
        app[name].help_epilogue = examples(*commands)
