"""What this machine knows of how a run's processes ended."""

from __future__ import annotations

from collections.abc import Sequence

from kinetic_flows.core.process_facts import ProcessEnd, ProcessFacts
from kinetic_flows.core.processes import ProcessIdentity, describe_exit, exit_code, liveness
from kinetic_flows.platforms.local.hosts import HostFiles


def read_facts(processes: Sequence[tuple[HostFiles, ProcessIdentity]]) -> ProcessFacts:
    """Return how processes ended.

    Args:
        processes: They, each with what it leaves.
    """
    return ProcessFacts(ends=tuple(_end(of_host, process) for of_host, process in processes))


def _end(of_host: HostFiles, process: ProcessIdentity) -> ProcessEnd:
    is_alive = liveness(process, of_host.life) != "dead"
    code = exit_code(process) if process.is_of_here and not is_alive else None
    where = f" on {process.where}" if process.where else ""
    return ProcessEnd(
        host=of_host.host,
        place=f"process {process.pid}{where}",
        message="" if is_alive else f"its process {describe_exit(code)}",
        exit_code=code,
        is_alive=is_alive,
    )
