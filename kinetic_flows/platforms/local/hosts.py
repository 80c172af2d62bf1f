"""The hosts of a run on this machine: processes that find one another on its loopback address.

What each of them leaves in the run's directory has its number, but for the first, which has the
names that runs on one host have.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetic_flows.core.files import write_atomically

LOOPBACK = "127.0.0.1"

DIRECTORY_VARIABLE = "KINETIC_HOSTS_DIRECTORY"
"""Environment variable that names the run's directory, where each looks whether others live."""

_GROUP = "hosts.json"


@dataclass(frozen=True, kw_only=True)
class HostFiles:
    """What one host leaves.

    Attributes:
        host: Its number.
        record: Who its process is.
        log: What it prints.
        life: What it holds a lock on while it lives.
    """

    host: int
    record: Path
    log: Path
    life: Path

    @classmethod
    def of(cls, place: Path, host: int) -> HostFiles:
        """Return those of a host.

        Args:
            place: The run's directory.
            host: Its number.
        """
        suffix = f"-{host}" if host else ""
        return cls(
            host=host,
            record=place / f"process{suffix}.json",
            log=place / f"output{suffix}.log",
            life=place / f"alive{suffix}",
        )


@dataclass(frozen=True, kw_only=True)
class HostGroup:
    """The hosts of one run.

    Attributes:
        hosts: How many there are.
        ports: On the first of them: where JAX's service listens, and where PyTorch's store does.
    """

    hosts: int
    ports: tuple[int, int]

    def environment(self, host: int, place: Path) -> dict[str, str]:
        """Return the variables by which a host knows who it is and finds the others.

        Args:
            host: Its number.
            place: The run's directory.
        """
        service, store = self.ports
        return {
            "KINETIC_HOSTS": str(self.hosts),
            "KINETIC_HOSTNAMES": ",".join([LOOPBACK] * self.hosts),
            "KINETIC_COORDINATOR_ADDRESS": f"{LOOPBACK}:{service}",
            "MASTER_PORT": str(store),
            "JOB_COMPLETION_INDEX": str(host),
            DIRECTORY_VARIABLE: str(place),
        }


def make_group(place: Path, hosts: int) -> HostGroup:
    """Return a run's group, the same for every attempt to start it.

    Args:
        place: The run's directory.
        hosts: How many there are.
    """
    found = read_group(place)
    if found is None:
        found = HostGroup(hosts=hosts, ports=_free_ports())
        fields = {"hosts": found.hosts, "ports": found.ports}
        write_atomically(place / _GROUP, json.dumps(fields).encode())
    return found


def read_group(place: Path) -> HostGroup | None:
    """Return a run's group; None for runs on one host.

    Args:
        place: The run's directory.
    """
    try:
        fields: Mapping[str, Any] = json.loads((place / _GROUP).read_bytes())
        service, store = fields["ports"]
        return HostGroup(hosts=int(fields["hosts"]), ports=(int(service), int(store)))
    except (OSError, ValueError, KeyError, TypeError):
        # It was written whole: this one's disk was full, and nothing was started.
        return None


def _free_ports() -> tuple[int, int]:
    """Return two ports that nothing listens on now."""
    with ExitStack() as both:
        found = [both.enter_context(socket.socket()) for _ in range(2)]
        for each in found:
            each.bind((LOOPBACK, 0))
        first, second = (int(each.getsockname()[1]) for each in found)
    return first, second
