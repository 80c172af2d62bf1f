"""The database of a Prefect server as it is at first, which takes a new server seconds to make."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.files import exclusive_lock

KEPT = Path(__file__).parents[2] / ".dev" / "prefect" / f"{version('prefect')}.db"

SOON = {
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": 1,
    "PREFECT_SERVER_SERVICES_SCHEDULER_RECENT_DEPLOYMENTS_LOOP_SECONDS": 1,
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL": 1,
}
"""What a server does now and then, in seconds: by itself 5 to 30, which tests would wait for."""


def give_database(home: Path) -> None:
    """Give a home whose server has not started yet a copy of what is kept between runs.

    The server finds its settings there, too.
    """
    with exclusive_lock(KEPT.with_name("lock")):
        if not KEPT.exists():
            _make_database()
    directory = home / "prefect"
    directory.mkdir(mode=0o700, parents=True)
    shutil.copy2(KEPT, directory / "prefect.db")
    settings = "".join(f'{name} = "{value}"\n' for name, value in SOON.items())
    (directory / "profiles.toml").write_text(f'active = "soon"\n\n[profiles.soon]\n{settings}')


def _make_database() -> None:
    with tempfile.TemporaryDirectory(dir=KEPT.parent) as home:
        server = BackgroundServer(Path(home), os.environ)
        try:
            server.ensure()
        finally:
            server.stop()
        made = Path(home, "made.db")
        with (
            closing(sqlite3.connect(server.directory / "prefect.db")) as source,
            closing(sqlite3.connect(made)) as target,
        ):
            source.backup(target)
        made.chmod(0o600)
        made.replace(KEPT)
