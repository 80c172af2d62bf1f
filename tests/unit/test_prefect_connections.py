"""Which clusters' Prefect servers are remembered, and at which port of this machine."""

from __future__ import annotations

from pathlib import Path

from kinetic_flows.clients.prefect.connections import (
    CONNECT_PORT,
    Connection,
    forget_connection,
    port_of,
    save_connection,
)


def remember(home: Path, cluster: str) -> int:
    port = port_of(home, cluster)
    save_connection(home, Connection(project="p", zone="z", cluster=cluster, port=port))
    return port


def test_every_cluster_has_a_port_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    assert [remember(tmp_path, name) for name in ("one", "two", "three")] == [
        CONNECT_PORT,
        CONNECT_PORT + 1,
        CONNECT_PORT + 2,
    ]
    forget_connection(tmp_path, "two")
    assert port_of(tmp_path, "three") == CONNECT_PORT + 2
    assert port_of(tmp_path, "four") == CONNECT_PORT + 1
