"""Containers that only run: for what is looked at from outside, whatever its image would do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from loopback.kubernetes.runtime import Container, ContainerSpec, Inside


@dataclass
class IdleContainer:
    """A container without a process, which ends by the first signal."""

    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _code: int = 0

    def inside(self, command: Sequence[str], *, has_terminal: bool) -> Inside:
        """Start it on this machine."""
        return Inside(command=tuple(command), environment=os.environ)

    async def wait(self) -> int:
        await self._ended.wait()
        return self._code

    def signal(self, number: int) -> None:
        self._code = 128 + number
        self._ended.set()


class IdleRuntime:
    """Runs every container idly."""

    async def start(self, spec: ContainerSpec) -> Container:
        return IdleContainer()
