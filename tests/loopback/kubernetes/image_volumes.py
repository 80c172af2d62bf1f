"""Volumes that are images: what an API server makes of them, and nodes.

https://kubernetes.io/docs/tasks/configure-pod-container/image-volumes/
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from loopback.kubernetes.store import Object

BY_DEFAULT = (1, 35)
"""First version whose feature gate `ImageVolume` is open without being asked to."""

WITH_SUB_PATH = (1, 33)
OLDEST_CONTAINERD = (2, 1)

POLICIES = ("Always", "IfNotPresent", "Never")

Unpack = Callable[[str, Path], None]
"""Makes the tree of an image in a directory that is not there yet."""


def numbers(version: str) -> tuple[int, ...]:
    """Return a version's first two numbers."""
    return tuple(int(part) for part in version.lstrip("v").split(".")[:2])


def drop_image_volumes(pod: Object) -> None:
    """Leave out what an API server leaves out whose feature gate is shut, without a word."""
    volumes = pod.get("volumes") or ()
    gone = {volume["name"] for volume in volumes if "image" in volume}
    if not gone:
        return
    pod["volumes"] = [volume for volume in volumes if volume["name"] not in gone]
    for container in pod["containers"]:
        mounts = container.get("volumeMounts") or ()
        container["volumeMounts"] = [mount for mount in mounts if mount["name"] not in gone]


def volume_problems(pod: Object, version: str) -> list[str]:
    """Return what is wrong with a pod's volumes, in the API server's words."""
    problems: list[str] = []
    where = "spec.template.spec"
    volumes = {volume["name"]: volume for volume in pod.get("volumes") or ()}
    for index, volume in enumerate(pod.get("volumes") or ()):
        place = f"{where}.volumes[{index}]"
        kinds = sorted(volume.keys() - {"name"})
        if len(kinds) > 1:
            problems.append(
                f"{place}.{kinds[1]}: Forbidden: may not specify more than 1 volume type"
            )
        if "image" in volume:
            problems += _source_problems(volume["image"], f"{place}.image")
    for number, container in enumerate(pod["containers"]):
        for index, mount in enumerate(container.get("volumeMounts") or ()):
            place = f"{where}.containers[{number}].volumeMounts[{index}]"
            if mount["name"] not in volumes:
                problems.append(f'{place}.name: Not found: "{mount["name"]}"')
            elif _is_early(version) and mount.get("subPath") and "image" in volumes[mount["name"]]:
                problems.append(f"{place}.subPath: not allowed in image volume sources")
    return problems


def _is_early(version: str) -> bool:
    return numbers(version) < WITH_SUB_PATH


def _source_problems(image: dict[str, Any], place: str) -> list[str]:
    problems = []
    if not image.get("reference"):
        problems.append(f"{place}.reference: Required value")
    policy = image.get("pullPolicy", "IfNotPresent")
    if policy not in POLICIES:
        valid = ", ".join(f'"{each}"' for each in POLICIES)
        problems.append(
            f'{place}.pullPolicy: Unsupported value: "{policy}": supported values: {valid}'
        )
    return problems


def images_of(pod: Object) -> dict[str, str]:
    """Return the images that a pod's container has mounted, by where."""
    images = {
        volume["name"]: volume["image"]["reference"]
        for volume in pod["spec"].get("volumes") or ()
        if "image" in volume
    }
    mounts = pod["spec"]["containers"][0].get("volumeMounts") or ()
    return {
        mount["mountPath"]: images[mount["name"]] for mount in mounts if mount["name"] in images
    }


def cannot_mount(runtime: str) -> str:
    """Return what a container runtime says that knows of no image volumes; empty if it does."""
    name, _, version = runtime.partition("://")
    if name != "containerd" or numbers(version) >= OLDEST_CONTAINERD:
        return ""
    return (
        'failed to generate container spec: failed to generate spec: failed to mkdir "": '
        "mkdir : no such file or directory"
    )
