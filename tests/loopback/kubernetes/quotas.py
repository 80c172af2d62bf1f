"""Resource quotas, as the API server refuses what is beyond them.

https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

from loopback.kubernetes.store import Object, Store

COUNTED = {"jobs": ("count/jobs.batch",), "pods": ("pods", "count/pods")}


def exceeded(store: Store, plural: str, namespace: str, name: str) -> str:
    """Return the refusal of one more object of a kind; empty where there is room for it.

    What a quota states as used is where its count begins, so that a test need not make it all.
    """
    there = [item for item in store.list(plural, namespace) if not _is_over(item)]
    for quota in store.list("resourcequotas", namespace):
        hard, stated = quota["spec"]["hard"], quota["status"]["used"]
        for key in COUNTED.get(plural, ()):
            if key not in hard:
                continue
            used = int(stated.get(key, 0)) + len(there)
            if used + 1 > int(hard[key]):
                group = ".batch" if plural == "jobs" else ""
                return (
                    f'{plural}{group} "{name}" is forbidden: exceeded quota: '
                    f"{quota['metadata']['name']}, requested: {key}=1, used: {key}={used}, "
                    f"limited: {key}={hard[key]}"
                )
    return ""


def _is_over(item: Object) -> bool:
    """Whether a pod no longer counts; a Job counts for as long as it is there."""
    return item["kind"] == "Pod" and item["status"].get("phase") in ("Succeeded", "Failed")
