"""Containers that only run: for what is looked at from outside, whatever its image would do."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from loopback.kubernetes.runtime import Container, ContainerSpec


@dataclass
class IdleContainer:
    """A container without a process, which ends by the first signal."""

    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _code: int = 0

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
