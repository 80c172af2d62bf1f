"""Checks of this machine as a platform."""

from __future__ import annotations

from kinetic_flows.core.findings import Check, Finding
from kinetic_flows.platforms.checking import Surroundings
from kinetic_flows.platforms.local.checks.environments import environment_findings

CLOUD = "Google Cloud"


def checks_of(surroundings: Surroundings) -> tuple[Check, ...]:
    """Return what is to be asked where functions run on this machine."""
    directory = surroundings.settings.home / "environments"
    return (
        Check(group=CLOUD, subject="GKE", look=lambda: [_not_configured(surroundings)]),
        Check(
            group="leftovers",
            subject="environments",
            look=lambda: environment_findings(directory),
        ),
    )


def _not_configured(surroundings: Surroundings) -> Finding:
    chosen = surroundings.settings.platform_is_explicit
    why = "KINETIC_PLATFORM=local" if chosen else "no project and no profile is configured"
    return Finding(
        subject="GKE",
        level="ok",
        text=f"functions run on this machine ({why}); `kinetic init` sets Google Cloud up",
    )
