"""What a namespace's resource quotas forbid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinetic_flows.core.accelerators import Accelerator
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
