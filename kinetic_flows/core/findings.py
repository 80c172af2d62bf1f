"""What `kinetic doctor` finds, and how it asks: checks that share what several of them need."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from kinetic_flows.core.errors import KineticError

T = TypeVar("T")

Level = Literal["ok", "warning", "wrong", "unknown"]

CHECK_SECONDS = 5.5
"""How long a check may take, what it shares with others included: with what is imported before, all
of them, since they are made at the same time, take less than ten seconds."""

FEW_CHARACTERS = 30

_PROGRAMS = "kinetic|gcloud|kubectl|pip|uv|prefect|export|unset|sudo"
_QUOTED = re.compile(rf"`((?:{_PROGRAMS}) [^`]+)`")
_AFTER_COLON = re.compile(rf": ((?:{_PROGRAMS}) .+?)(?=$|;|, | \()")


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


@dataclass(frozen=True, kw_only=True)
class Check:
    """A question, with all that its answer tells.

    Attributes:
        group: The heading under which its findings are shown.
        subject: What it is about, for when it cannot be asked.
        look: Asks, and returns what was found. An error says that it could not be asked, which is
            never the same as that something is wrong.
        seconds: How long it may take, counted from when all began; None for as long as others.
    """

    group: str
    subject: str
    look: Callable[[], Iterable[Finding]]
    seconds: float | None = None


class NotAsked(Exception):
    """Something cannot be asked without what another check tells of.

    Args:
        lacking: What is missing, in words that follow `without`.
    """

    def __init__(self, lacking: str) -> None:
        super().__init__(f"not asked without {lacking}")


class Fact(Generic[T]):
    """Something that several checks need, and the first of them asks for.

    Args:
        name: What it is, in words that follow `without`: `the cluster's description`.
        ask: Asks for it.
    """

    def __init__(self, name: str, ask: Callable[[], T]) -> None:
        self._name = name
        self._ask = ask
        self._lock = threading.Lock()
        self._known: list[T] = []
        self._failed: Exception | None = None

    def get(self) -> T:
        """Return it, for the check that tells of it.

        Raises:
            Exception: What asking for it raised, also for those who come later.
        """
        with self._lock:
            if self._failed is not None:
                raise self._failed
            if not self._known:
                try:
                    self._known.append(self._ask())
                except Exception as error:
                    self._failed = error
                    raise
            return self._known[0]

    def need(self) -> T:
        """Return it, for a check of something else.

        Raises:
            NotAsked: It is not known; the check whose it is tells why.
        """
        try:
            return self.get()
        except Exception as error:
            raise NotAsked(self._name) from error


def finding_of(subject: str, error: KineticError, level: Level = "wrong") -> Finding:
    """Return what an error tells of something, with the command that its hint names.

    Args:
        subject: What was looked at.
        error: What was raised.
        level: How it is then.
    """
    hint = " ".join((error.hint or "").split())
    command = command_in(hint) or command_in(error.message)
    # A hint that is a command, and hardly more, is not said twice.
    is_said = not hint or (command is not None and len(hint) - len(command) < FEW_CHARACTERS)
    said = error.message if is_said else f"{error.message}; {hint}"
    return Finding(subject=subject, level=level, text=" ".join(said.split()), command=command)


def command_in(text: str) -> str | None:
    """Return the command that a text names, in backquotes or behind a colon; None for none."""
    line = " ".join(text.split())
    found = _QUOTED.search(line) or _AFTER_COLON.search(line)
    return found[1] if found else None
