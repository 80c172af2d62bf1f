"""The wheels that an environment ships because no index has them."""

from __future__ import annotations

import hashlib

from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.errors import BuildError
from kinetic_flows.core.protocols import ArtifactStore


def fetch_wheels(store: ArtifactStore, environment: EnvironmentSpec) -> dict[str, bytes]:
    """Fetch an environment's own wheels, each checked against its digest, by file name.

    Raises:
        BuildError: A stored wheel is not the one that was locked.
        StoreError: One cannot be read.
    """
    wheels = {}
    for wheel in environment.wheels:
        data = store.get(wheel.name).data
        if hashlib.sha256(data).hexdigest() != wheel.sha256:
            raise BuildError(
                f"the stored wheel {wheel.name} does not match its digest",
                value=wheel.name,
                hint="delete it from the store and run again",
            )
        wheels[wheel.name.rpartition("/")[2]] = data
    return wheels
