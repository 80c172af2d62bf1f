"""What setting up needs of a Prefect API, wherever it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class PrefectPlace(Protocol):
    """A Prefect API, as setting up uses it."""

    @property
    def pods_url(self) -> str | None:
        """The API as pods reach it; None where they cannot."""
        ...

    def pods_credentials(self) -> Mapping[str, str]:
        """Return the variables with which pods are let in.

        Raises:
            KineticError: They cannot be read.
        """
        ...

    def find(self) -> str | None:
        """Return the API as this process reaches it; None while it does not run; starts nothing."""
        ...

    def open(self) -> str:
        """Return the API as this process reaches it, and start what that takes.

        Raises:
            KineticError: It cannot be reached.
        """
        ...

    def variables(self) -> Mapping[str, str]:
        """Return the variables with which another process of this machine uses the API.

        Raises:
            KineticError: It cannot be reached.
        """
        ...
