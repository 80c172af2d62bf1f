"""What is started beside a run's processes by somebody who looks at it: one command each.

Each command is told the run's door and its own arguments, and prints one JSON object, unless it
becomes another program.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from .door import Door, read_door

Command = Callable[[Door, Sequence[str]], int]

COMMANDS: Mapping[str, str] = {
    "debugger": "debugging",
    "enter": "enter",
    "give": "giving",
    "metrics": "metrics",
    "profile": "profile_store",
    "stacks": "stacks",
    "take": "taking",
}
"""The module of each command, whose `main` is called with the door and the command's arguments."""

EXIT_UNKNOWN_COMMAND = 64


def main(door: str, arguments: Sequence[str]) -> int:
    """Do one command; return the exit code.

    Args:
        door: Path of the door.
        arguments: The command's name and its arguments.
    """
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"kinetic: this run's runner knows no {name}", file=sys.stderr)
        return EXIT_UNKNOWN_COMMAND
    command: Command = import_module(f".{COMMANDS[name]}", __package__).main
    return command(read_door(door), rest)
