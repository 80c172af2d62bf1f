"""Whether a run could be launched in the namespace: what every launch looks at, all of it."""

from __future__ import annotations

from collections.abc import Iterator

from kinetic_flows.core.findings import Finding, Level, command_in
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts
from kinetic_flows.platforms.gke.preflight import preflight
from kinetic_flows.platforms.gke.preflight_request import PreflightRequest


def namespace_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield what speaks against a launch of a function that says nothing of where it runs."""
    cloud = facts.cloud
    subject = f"namespace {cloud.namespace}"
    if cloud.dispatch == "worker":
        text = "not looked at: a worker launches runs (KINETIC_DISPATCH=worker)"
        yield Finding(subject=subject, level="ok", text=text)
        return
    client, _ = facts.reached.need()
    request = PreflightRequest(
        accelerator=facts.accelerator,
        namespace=cloud.namespace,
        service_account=facts.service_account,
        packages=cloud.prebuilt if cloud.prebuilt == "volume" else "install",
    )
    found = preflight(client, request)
    # Which node pools GKE itself says that there are is told of with the cluster.
    no_pool = f"no node pool has {facts.accelerator};"
    problems = tuple(each for each in found.problems if not each.startswith(no_pool))
    if not problems:
        text = "rights, quotas and admission are as launches need them"
        yield Finding(subject=subject, level="ok", text=text)
    # Without the rights that launching takes, runs are handed to a worker.
    stops: Level = "wrong" if facts.dispatch.need() == "client" else "warning"
    told: tuple[tuple[Level, tuple[str, ...]], ...] = (
        (stops, problems),
        ("warning", (*found.warnings, *filter(None, (found.no_image_volumes,)))),
    )
    for level, texts in told:
        for text in texts:
            yield Finding(subject=subject, level=level, text=text, command=command_in(text))
