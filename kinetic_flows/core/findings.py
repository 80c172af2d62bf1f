"""What `kinetic doctor` finds: one line of something that runs depend on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "wrong", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found of one thing.

    Attributes:
        subject: What was looked at, as one would call it: `work pool kinetic-gke`.
        level: How it is; `unknown` where it could not be looked at.
        text: What was found, in a line.
        command: The command that mends it, as one would type it; None when it is well, or no one
            command does.
        fix: Mends it, and returns what it did; None where it is not safe to do unasked.
    """

    subject: str
    level: Level
    text: str
    command: str | None = None
    fix: Callable[[], str] | None = None
