"""What a run's container may do on its node, and what a namespace demands of it.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LEVEL_LABEL = "pod-security.kubernetes.io/enforce"
"""Label of a namespace that says what its pods have to fulfil."""

HOME = "/home/kinetic"
"""Where the containers of built images have a directory to write to, besides `/tmp`."""

USER_ID = 1000
"""The user whom built images run as, and his group."""

_UNPRIVILEGED: Mapping[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}

RESTRICTED: Mapping[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "readOnlyRootFilesystem": True,
    **_UNPRIVILEGED,
}
"""What images that this library builds run with, and the work pool's default."""

AS_THE_IMAGE_SAYS: Mapping[str, Any] = {}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "restricted": RESTRICTED,
    "image": AS_THE_IMAGE_SAYS,
}
"""What `job_variables={"security_context": ...}` may name instead of writing it out."""

_BASELINE_CAPABILITIES = frozenset(
    {
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"),
        *("NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    }
)


def of_built_image(category: str) -> Mapping[str, Any] | None:
    """Return what an image that this library built runs with; None for the work pool's default.

    On TPU nodes it runs as root, though without any capability: the device files of TPUs are
    root's, and whether a node hands them to another user is its container runtime's setting.
    https://kubernetes.io/blog/2021/11/09/non-root-containers-and-devices/

    Args:
        category: Accelerator category of the image.
    """
    if category != "tpu":
        return None
    return {"runAsUser": 0, "readOnlyRootFilesystem": True, **_UNPRIVILEGED}


def of_own_image(user: str | None) -> Mapping[str, Any]:
    """Return what a custom image runs with.

    One with a USER that is no root loses what it has no use for. What one needs that runs
    as root is not known, so it runs as it says.

    Args:
        user: The image's USER; None when it is not known.
    """
    name = (user or "").partition(":")[0]
    # Kubernetes cannot tell of a name whether it is root's.
    if not name.isdigit() or not int(name):
        return AS_THE_IMAGE_SAYS
    return {"runAsNonRoot": True, **_UNPRIVILEGED}


def violations(level: str, context: Mapping[str, Any]) -> list[str]:
    """Return what of a container's security context a level forbids, in the field names' words.

    Args:
        level: The level that a namespace enforces; unknown ones forbid nothing.
        context: The security context.
    """
    if level not in ("baseline", "restricted"):
        return []
    found = list(_beyond_baseline(context))
    return found + list(_unrestricted(context)) if level == "restricted" else found


def _beyond_baseline(context: Mapping[str, Any]) -> Iterator[str]:
    if context.get("privileged"):
        yield "privileged"
    added = set((context.get("capabilities") or {}).get("add") or ())
    if not added <= _BASELINE_CAPABILITIES:
        yield f"capabilities.add {', '.join(sorted(added - _BASELINE_CAPABILITIES))}"
    if (context.get("seccompProfile") or {}).get("type") == "Unconfined":
        yield "seccompProfile.type Unconfined"


def _unrestricted(context: Mapping[str, Any]) -> Iterator[str]:
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    capabilities = context.get("capabilities") or {}
    if "ALL" not in (capabilities.get("drop") or ()):
        yield "capabilities.drop lacks ALL"
    if not set(capabilities.get("add") or ()) <= {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if context.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if context.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if not (context.get("seccompProfile") or {}).get("type"):
        yield "seccompProfile is not set"
