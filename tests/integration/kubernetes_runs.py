"""Runs for the Kubernetes launcher, whose pods are processes of this machine."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.launcher import LaunchRequest, Observation, Phase
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.launcher import KubernetesLauncher, LauncherSettings
from loopback.kubernetes.cluster import LoopbackCluster

IMAGE = ResolvedImage(
    reference="registry/image@sha256:" + "0" * 64, digest="sha256:" + "0" * 64, labels={}
)
WAIT_FOR_EVER = "import time; print('up', flush=True); time.sleep(600)"


@dataclass
class Launched:
    """A run that was started, and what its output was so far."""

    launcher: KubernetesLauncher
    run_id: str
    output: bytes = b""
    position: int = 0
    seen: list[Observation] = field(default_factory=list)

    def look(self) -> Observation:
        """Look at it once."""
        seen = self.launcher.observe(self.run_id, self.position)
        self.output += seen.output
        self.position = seen.position
        self.seen.append(seen)
        return seen

    def until(self, *phases: Phase, reason: str = "", seconds: float = 30) -> Observation:
        """Look at it until it is in one of these phases, for a reason that contains a text."""
        deadline = time.monotonic() + seconds
        while True:
            seen = self.look()
            if seen.phase in phases and reason in seen.reason:
                return seen
            assert not seen.phase.is_final, seen
            assert time.monotonic() < deadline, seen
            time.sleep(0.02)

    def end(self, seconds: float = 30) -> Observation:
        """Look at it until it has ended."""
        return self.until(Phase.SUCCEEDED, Phase.FAILED, Phase.GONE, seconds=seconds)


@contextmanager
def a_launcher(
    cluster: LoopbackCluster, settings: LauncherSettings | None = None
) -> Iterator[KubernetesLauncher]:
    """Yield a launcher on a cluster."""
    client = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
    try:
        yield KubernetesLauncher(client, settings)
    finally:
        client.close()


def a_request(
    source: str,
    *,
    accelerator: str = "cpu",
    environment: Mapping[str, str] | None = None,
    variables: Mapping[str, Any] | None = None,
    **options: Any,
) -> LaunchRequest:
    """Return a request for a run of a script."""
    run_id = str(uuid.uuid4())
    pod = PodRequest(
        run_id=run_id,
        name="train",
        image=IMAGE.reference,
        accelerator=parse_accelerator(accelerator),
        arguments=("-c", source),
        variables={"termination_grace_seconds": 5, **(variables or {})},
        **options,
    )
    return LaunchRequest(
        run_id=run_id,
        name="train",
        image=IMAGE,
        environment={"KINETIC_RUN_KEY": "5e" * 32, **(environment or {})},
        job_variables=job_variables(pod),
    )


def launch(launcher: KubernetesLauncher, request: LaunchRequest) -> Launched:
    """Start a run."""
    launcher.start(request)
    return Launched(launcher=launcher, run_id=request.run_id)
