"""Where the zip archive begins: as the supervisor, a worker, or what one of them starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any


def main(launch: Mapping[str, Any] | None) -> None:
    """Be a launch's supervisor, the worker of a task, what compiles for it, or a command beside.

    Args:
        launch: What the bootstrap hands over; None where arguments say what this process is.
    """
    if launch is None and sys.argv[1] == "beside":
        from .beside import main as be_beside

        sys.exit(be_beside(sys.argv[2], sys.argv[3:]))
    if launch is None and sys.argv[1] == "rehearse":
        from .rehearse_child import main as compile_for_target

        compile_for_target(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    if launch is None:
        from .worker import main as work

        work(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    from .starting import run

    code = run(launch, dict(os.environ))
    # Threads that still wait for a server must not hold this process.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
