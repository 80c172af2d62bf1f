"""How far reading and sending data is, for whoever shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Sent:
    """How far an upload is.

    Attributes:
        done_bytes: Size of the files that are in the store.
        total_bytes: Size of all.
        files: How many of them are in the store.
        sent_bytes: How many bytes this client has sent.
        seconds: Since when.
    """

    done_bytes: int
    total_bytes: int
    files: int
    sent_bytes: int
    seconds: float


class Listener(Protocol):
    """Told how far it is, often and from any thread."""

    def read(self, files: int, size_bytes: int) -> None:
        """So many files were looked at, and what they have is known."""
        ...

    def sent(self, sent: Sent) -> None:
        """So much is in the store."""
        ...


class Unheard:
    """Listens to nothing."""

    def read(self, files: int, size_bytes: int) -> None:
        """Ignore files that were looked at."""

    def sent(self, sent: Sent) -> None:
        """Ignore what is in the store."""
