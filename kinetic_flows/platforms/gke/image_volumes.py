"""Whether a cluster's pods can have an image mounted as a volume, and how a run's pod asks for it.

Kubernetes has such volumes since 1.31 behind the feature gate `ImageVolume`, and by default from
1.35 on (https://kubernetes.io/docs/tasks/configure-pod-container/image-volumes/). An API server
whose gate is off drops the volume without a word, and one that never heard of it makes an empty
directory of it: so what it makes of a Job that is only tried tells more than its version. Nodes
mount them from containerd 2.1 on (https://github.com/containerd/containerd/pull/10579) and CRI-O
1.31 (https://github.com/cri-o/cri-o/pull/8317); GKE's have containerd 2.0 up to GKE 1.33
(https://cloud.google.com/kubernetes-engine/docs/deprecations/migrate-containerd-2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.core.job import PACKAGES_VARIABLE
from kinetic_flows.core.job_parts import PackagesSpec

VOLUME_NAME = "kinetic-packages"
MOUNT_PATH = "/opt/kinetic/packages"
"""Where a run's container has its packages."""
VOLUME_VARIABLE = "packages_volume"
MOUNT_VARIABLE = "packages_mount"
VARIABLES = (VOLUME_VARIABLE, MOUNT_VARIABLE)
"""Variables of the work pool's template: the volume of the pod, and where its container has it."""

FIRST_VERSION = (1, 31)
DEFAULT_VERSION = (1, 35)
"""Kubernetes versions that know image volumes, and that have them without being asked to."""

RUNTIMES: Mapping[str, tuple[int, int]] = {"containerd": (2, 1), "cri-o": (1, 31)}
"""Container runtimes that mount images, and from which version on."""

_VERSION = re.compile(r"v?(\d+)\.(\d+)")


def packages_variables(packages: PackagesSpec | None) -> dict[str, Any]:
    """Return the template's variables by which a pod has its packages mounted.

    Args:
        packages: The packages; None for a run that has none mounted.
    """
    if packages is None:
        return {}
    return {
        VOLUME_VARIABLE: image_volume(packages.image),
        MOUNT_VARIABLE: {"name": VOLUME_NAME, "mountPath": MOUNT_PATH, "readOnly": True},
        "env": {PACKAGES_VARIABLE: MOUNT_PATH},
    }


def image_volume(reference: str) -> dict[str, Any]:
    """Return a pod's volume that is an image; one by digest never changes."""
    image = {"reference": reference, "pullPolicy": "IfNotPresent"}
    return {"name": VOLUME_NAME, "image": image}


def may_know_image_volumes(server: str) -> bool:
    """Whether an API server may know of image volumes at all.

    Args:
        server: Its version; empty where it is not known.
    """
    return not server or version_of(server) >= FIRST_VERSION


def keeps_image_volume(job: Mapping[str, Any]) -> bool:
    """Whether an API server has left the image volume in a Job that it was given."""
    volumes = job["spec"]["template"]["spec"].get("volumes") or ()
    return any(each.get("image") for each in volumes if each["name"] == VOLUME_NAME)


def server_obstacle(server: str) -> str:
    """Say that an API server takes no image volumes.

    Args:
        server: Its version, such as `v1.33.4-gke.1134000`; empty where it is not known.
    """
    return (
        f"{_api_server(server)} takes no image volumes, which are on by default from Kubernetes "
        "1.35 on (from 1.31 on with the feature gate ImageVolume)"
    )


def untried_obstacle(server: str) -> str:
    """Say that nobody knows whether an API server takes image volumes; empty if it ought to.

    Args:
        server: Its version; empty where it is not known.
    """
    if version_of(server) >= DEFAULT_VERSION:
        return ""
    return (
        f"whether {_api_server(server)} takes image volumes could not be tried, and they are on by "
        "default from Kubernetes 1.35 on; if it does, say KINETIC_PREBUILT=volume"
    )


def node_obstacle(pools: Iterable[NodePool], server: str) -> str:
    """Say which nodes mount no images; empty where all do, as far as they tell.

    Args:
        pools: The node pools that a run may be on.
        server: Version of the API server, which takes image volumes; empty if not known.
    """
    # Where somebody opened the gate of an older API server, that of its nodes is believed open.
    needed = DEFAULT_VERSION if version_of(server) >= DEFAULT_VERSION else FIRST_VERSION
    for pool in pools:
        if pool.kubelet and version_of(pool.kubelet) < needed:
            return (
                f"nodes of the pool {pool.name} have Kubernetes {pool.kubelet}, and image volumes "
                f"need {_dotted(needed)}"
            )
        if pool.runtime and not mounts_images(pool.runtime):
            return (
                f"nodes of the pool {pool.name} have {pool.runtime.replace('://', ' ')}, and image "
                f"volumes need {' or '.join(f'{n} {_dotted(v)}' for n, v in RUNTIMES.items())}"
            )
    return ""


def mounts_images(runtime: str) -> bool:
    """Whether a node's container runtime mounts images.

    Args:
        runtime: As the node names it, such as `containerd://2.1.4`.
    """
    name, _, version = runtime.partition("://")
    first = RUNTIMES.get(name)
    return first is not None and version_of(version) >= first


def template_obstacle(lacking: Iterable[str]) -> str:
    """Say that a work pool's template has no place for the volume; empty where it has.

    Args:
        lacking: Those of `VARIABLES` that it does not have.
    """
    names = " and ".join(lacking)
    if not names:
        return ""
    return (
        f"the work pool's template has no variable {names}; `kinetic pool create` brings it up to "
        "date"
    )


def version_of(text: str) -> tuple[int, int]:
    """Return the major and minor version that a text begins with; zeros where it has none."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _api_server(version: str) -> str:
    named = f"Kubernetes {version}" if version else "of a version that it does not tell"
    return f"the cluster's API server ({named})"


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
