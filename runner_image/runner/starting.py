"""What the process that the bootstrap has started is: a run's supervisor, or what drives a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from .contract import Fault
from .identity import LAUNCHED_RUN_VARIABLE, identified, read_job
from .marks import STDERR_MARK


def run(launch: Mapping[str, Any], environ: Mapping[str, str]) -> int:
    """Run the job that the bootstrap hands over; return the exit code of this process."""
    import shutil

    message = ""
    with ExitStack() as leaving:
        leaving.callback(shutil.rmtree, launch["scratch"], ignore_errors=True)
        try:
            code = _run(launch, environ, leaving)
        except Fault as fault:
            code, message = fault.exit_code, fault.message
            print(f"{STDERR_MARK.decode()}kinetic: {message}", file=sys.stderr, flush=True)
    if environ.get(LAUNCHED_RUN_VARIABLE):
        from .own_flow_run import report_end

        report_end(environ, code, message)
    return code


def _run(launch: Mapping[str, Any], environ: Mapping[str, str], leaving: ExitStack) -> int:
    job = identified(read_job(launch["job"]), environ)
    # Jobs that were written by earlier clients do not say.
    if job.get("drives"):
        from .driving import Driver

        return Driver(job, environ, launch["store"], launch["client"]).run()
    from .supervisor import Supervisor

    return Supervisor(launch, job, environ, leaving).run()
