"""`kinetic completion` and `kinetic help`."""

from __future__ import annotations

from typing import Literal

from kinetic_flows.cli import commands


def completion(shell: Literal["bash", "zsh", "fish", "powershell"], /) -> None:
    """Print the script by which a shell completes this command.

    Args:
        shell: The shell: bash, zsh, fish or powershell.
    """
    print(commands.app.generate_completion(prog_name="kinetic", shell=shell))


def help_(*command: str) -> None:
    """Show the help of a command, or this overview.

    Args:
        command: The command, such as runs ls; this overview without one.
    """
    commands.app([*command, "--help"], print_error=False, exit_on_error=False)
