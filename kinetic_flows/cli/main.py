"""The `kinetic` command's way in and out: it parses, prints and exits, and the rest is others'.

Nothing is imported for `kinetic --version`, and of the commands only the one that is called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    from kinetic_flows.cli import running
    from kinetic_flows.core import version
else:
    running = LazyModule("kinetic_flows.cli.running")
    version = LazyModule("kinetic_flows.core.version")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit: 0, or the code of the error's class.

    Args:
        arguments: What follows the command's name; None for this process's arguments.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        if arguments == ["--version"]:
            print(version.VERSION, flush=True)
            sys.exit(0)
        code = running.run_command(arguments)
        # What is still to be written is written here, where it is known what to do if it is not.
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (`| head`) has enough; the flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(code)
