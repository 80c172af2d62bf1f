"""Which clusters' Prefect servers were connected to, so that doing it again takes no options."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.files import write_atomically

CONNECT_PORT = 4243
"""Where the first cluster's server is on this machine; the background server is one before."""

_FOLDER = "connections"


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A server in a cluster, and its port on this machine.

    Attributes:
        project: The cluster's project.
        zone: Its zone or region.
        cluster: Its name.
        port: The port.
    """

    project: str
    zone: str
    cluster: str
    port: int = CONNECT_PORT

    @property
    def profile(self) -> str:
        """The profile of Prefect's that leads there."""
        return f"kinetic-{self.cluster}"

    @property
    def api_url(self) -> str:
        """The API on this machine."""
        return f"http://127.0.0.1:{self.port}/api"


def save_connection(home: Path, connection: Connection) -> None:
    """Remember a server, in place of one of a cluster of the same name.

    Args:
        home: `KINETIC_HOME`.
        connection: The server.
    """
    text = json.dumps(asdict(connection), indent=2)
    write_atomically(home / _FOLDER / f"{connection.cluster}.json", f"{text}\n".encode())


def forget_connection(home: Path, cluster: str) -> None:
    """Forget a server; harmless when none is remembered.

    Args:
        home: `KINETIC_HOME`.
        cluster: The cluster's name.
    """
    (home / _FOLDER / f"{cluster}.json").unlink(missing_ok=True)


def saved_connections(home: Path) -> Mapping[str, Connection]:
    """Return the servers that are remembered, by their clusters' names; none that is damaged.

    Args:
        home: `KINETIC_HOME`.
    """
    found = {}
    for path in sorted((home / _FOLDER).glob("*.json")):
        try:
            found[path.stem] = Connection(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            continue
    return found


def port_of(home: Path, cluster: str) -> int:
    """Return the port at which a cluster's server is remembered, or else is to be.

    No two have the same: the password of one would be sent to the other.

    Args:
        home: `KINETIC_HOME`.
        cluster: The cluster's name.
    """
    known = saved_connections(home)
    if cluster in known:
        return known[cluster].port
    taken = {each.port for each in known.values()}
    return next(port for port in itertools.count(CONNECT_PORT) if port not in taken)


def saved_connection(home: Path, cluster: str | None) -> Connection | None:
    """Return a server that is remembered; None where none is and none is named.

    Args:
        home: `KINETIC_HOME`.
        cluster: The cluster's name; None for the only one.

    Raises:
        UsageError: There are several, and none is named.
    """
    known = saved_connections(home)
    if cluster is not None:
        return known.get(cluster)
    if len(known) > 1:
        raise UsageError(
            "there are servers of several clusters",
            value=list(known),
            hint=f"name one: kinetic server connect {' or '.join(known)}",
        )
    return next(iter(known.values()), None)
