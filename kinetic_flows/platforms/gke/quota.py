"""What a namespace's resource quotas forbid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.launcher import PodRequests
from kinetic_flows.core.quantities import cpu_millis, memory_bytes
from kinetic_flows.platforms.gke.diagnosis import COUNTED_JOBS, FINISHED_JOBS_COUNT


def check_quota(quota: Mapping[str, Any], accelerator: Accelerator) -> tuple[list[str], list[str]]:
    """Return what a namespace's quota forbids for good, and what it makes wait for other runs.

    Args:
        quota: A `ResourceQuota` (https://kubernetes.io/docs/concepts/policy/resource-quotas/).
        accelerator: What the run is to run on.
    """
    hosts = accelerator.hosts
    wanted = {COUNTED_JOBS: accelerator.slices, "pods": hosts, "count/pods": hosts}
    for name, count in accelerator.resources.items():
        wanted[f"requests.{name}"] = int(count) * hosts
    status = quota.get("status") or {}
    hard: Mapping[str, Any] = status.get("hard") or (quota.get("spec") or {}).get("hard") or {}
    used: Mapping[str, Any] = status.get("used") or {}
    problems, warnings = [], []
    for key, amount in wanted.items():
        if not str(hard.get(key, "")).isdigit():
            continue
        limit, taken = int(hard[key]), int(used.get(key) or 0)
        which = f"resource quota {quota['metadata']['name']!r} of the namespace"
        if amount > limit:
            problems.append(f"{which} allows {limit} {key}, and {accelerator} needs {amount}")
        elif amount > limit - taken and key == COUNTED_JOBS:
            # Pods wait for room; a Job beyond a quota is refused, unless a finished one gives way.
            warnings.append(
                f"{which} has {taken} of {limit} {key} in use, and Jobs do not wait: the run's is "
                f"made when another is removed ({FINISHED_JOBS_COUNT})"
            )
        elif amount > limit - taken:
            warnings.append(f"{which} has {taken} of {limit} {key} in use: the run waits for them")
    return problems, warnings


def too_much_of_quota(quota: Mapping[str, Any], hosts: int, requests: PodRequests) -> Iterator[str]:
    """Yield which CPUs and which memory a namespace's quota could never give a run.

    Args:
        quota: A `ResourceQuota`.
        hosts: How many pods the run has at once.
        requests: What is said of what each of them asks for.
    """
    asked = {
        **dict.fromkeys(("requests.cpu", "cpu"), (cpu_millis, requests.cpu)),
        **dict.fromkeys(("requests.memory", "memory"), (memory_bytes, requests.memory)),
        "limits.memory": (memory_bytes, requests.memory_limit),
    }
    hard: Mapping[str, Any] = (quota.get("spec") or {}).get("hard") or {}
    for key, (read, said) in asked.items():
        each, limit = read(said), read(hard.get(key))
        if each is not None and limit is not None and each * hosts > limit:
            times = f"{hosts} times {said}" if hosts > 1 else said
            yield (
                f"resource quota {quota['metadata']['name']!r} of the namespace allows "
                f"{hard[key]} {key}, and the run asks for {times}"
            )
