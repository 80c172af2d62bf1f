"""What runs a team's pods: Prefect's server as a process of this machine, the rest idly."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from loopback.kubernetes.idle import IdleRuntime
from loopback.kubernetes.runtime import Container, ContainerSpec, Runtime, start_process

LOOK_SECONDS = 0.1
SETTINGS = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_SERVER_UI_API_URL")


class TeamRuntime:
    """Starts the server that a pod's command starts, on SQLite and at a port of its own.

    Args:
        port: Where the server is to listen.
        prepare: Makes the database in a directory.
        others: What runs every other container; None for idly.
    """

    def __init__(
        self, port: int, prepare: Callable[[Path], object], others: Runtime | None = None
    ) -> None:
        self._port = port
        self._prepare = prepare
        self._others = others or IdleRuntime()

    async def start(self, spec: ContainerSpec) -> Container:
        if spec.command[:3] != ("prefect", "server", "start"):
            return await self._others.start(spec)
        home = spec.directory / "server"
        self._prepare(home)
        command = (
            *(sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"),
            *("--port", str(self._port)),
        )
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            **{name: spec.environment[name] for name in SETTINGS},
        }
        started = await start_process(replace(spec, command=command), list, environment)
        # A pod counts as ready once its container has started; this one's probes ask the server.
        await self._listens(started.process)
        return started

    async def _listens(self, process: asyncio.subprocess.Process) -> None:
        while process.returncode is None:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                writer.close()
                return
            await asyncio.sleep(LOOK_SECONDS)
