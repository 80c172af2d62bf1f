"""Pod Security admission, as the API server words it.

https://kubernetes.io/docs/concepts/security/pod-security-admission/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loopback.kubernetes.store import Object

PREFIX = "pod-security.kubernetes.io"
_HOSTS = ("hostNetwork", "hostPID", "hostIPC")
_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("image", "persistentVolumeClaim", "projected", "secret"),
}


def enforced(namespace: Object) -> str:
    """Return the level that pods of a namespace have to fulfil."""
    labels = namespace["metadata"].get("labels") or {}
    return str(labels.get(f"{PREFIX}/enforce", "privileged"))


def warned(namespace: Object) -> str:
    """Return the level that a namespace warns of; where it does not say, what it enforces."""
    labels = namespace["metadata"].get("labels") or {}
    return str(labels.get(f"{PREFIX}/warn") or enforced(namespace))


def violations(level: str, spec: Object) -> str:
    """Return what of a pod a level forbids; empty when it fulfils it."""
    if level == "privileged":
        return ""
    found = list(_baseline(spec)) + (list(_restricted(spec)) if level == "restricted" else [])
    return f'PodSecurity "{level}:latest": {", ".join(found)}' if found else ""


def _baseline(spec: Object) -> Iterator[str]:
    names = [name for name in _HOSTS if spec.get(name)]
    if names:
        yield f"host namespaces ({', '.join(f'{name}=true' for name in names)})"
    for container, context in _contexts(spec):
        if context.get("privileged"):
            yield (
                f'privileged (container "{container}" must not set securityContext.privileged=true)'
            )
    paths = [volume["name"] for volume in spec.get("volumes") or () if "hostPath" in volume]
    if paths:
        yield f'hostPath volumes (volume "{paths[0]}")'


def _restricted(spec: Object) -> Iterator[str]:
    pod = spec.get("securityContext") or {}
    for container, context in _contexts(spec):
        if context.get("allowPrivilegeEscalation") is not False:
            yield (
                f'allowPrivilegeEscalation != false (container "{container}" must set '
                "securityContext.allowPrivilegeEscalation=false)"
            )
        if "ALL" not in ((context.get("capabilities") or {}).get("drop") or ()):
            yield (
                f'unrestricted capabilities (container "{container}" must set '
                'securityContext.capabilities.drop=["ALL"])'
            )
        if not {"runAsNonRoot": pod.get("runAsNonRoot"), **context}["runAsNonRoot"]:
            yield (
                f'runAsNonRoot != true (pod or container "{container}" must set '
                "securityContext.runAsNonRoot=true)"
            )
        if {"runAsUser": pod.get("runAsUser"), **context}["runAsUser"] == 0:
            yield f'runAsUser=0 (container "{container}" must not set runAsUser=0)'
        profile = context.get("seccompProfile") or pod.get("seccompProfile") or {}
        if profile.get("type") not in ("RuntimeDefault", "Localhost"):
            yield (
                f'seccompProfile (pod or container "{container}" must set '
                'securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")'
            )
    for volume in spec.get("volumes") or ():
        kinds = volume.keys() - {"name"}
        if not kinds <= _VOLUMES:
            yield f'restricted volume types (volume "{volume["name"]}" uses {", ".join(kinds)})'


def _contexts(spec: Object) -> Iterator[tuple[str, dict[str, Any]]]:
    for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
        yield container["name"], container.get("securityContext") or {}
