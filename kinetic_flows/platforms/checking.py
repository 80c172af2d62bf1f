"""What the checks of a platform are given."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from kinetic_flows.core.findings import Fact
from kinetic_flows.core.settings.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What is known before a platform is looked at.

    Attributes:
        settings: The settings in force.
        environ: This process's variables.
        api_url: The Prefect API.
        probes: Whether something may be started there, which asks from there.
        at_end: Closes connections when everything is asked.
    """

    settings: Settings
    environ: Mapping[str, str]
    api_url: Fact[str]
    probes: bool = False
    at_end: ExitStack = field(default_factory=ExitStack)
