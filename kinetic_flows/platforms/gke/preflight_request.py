"""What a preflight asks a cluster about."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Self

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.accelerators.node_requests import NodeRequest
from kinetic_flows.core.launcher import LaunchNeeds, PodRequests
from kinetic_flows.core.secret_sources import SecretSource
from kinetic_flows.core.settings.cloud import Prebuilt
from kinetic_flows.core.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class PreflightRequest:
    """What a launch is going to need.

    Attributes:
        accelerator: What the run is to run on.
        namespace: Namespace of its Job.
        service_account: Kubernetes service account of its pods; None for the default one.
        prefect_api_url: Where its pods are to report; None when that is not known.
        security_context: What its containers may do on their nodes, as JSON so that requests
            compare; None when only the image will tell.
        packages: How packages are to come into its image; of `install` nothing is asked.
        volumes: What its pods are to have mounted.
        secrets: Which keys of Kubernetes Secrets they are to have.
        requests: What is said of the CPUs and the memory that they ask for.
        nodes: What its pods ask of nodes besides the accelerator.
        server: Version of the API server, as soon as it has told; empty until then.
    """

    accelerator: Accelerator
    namespace: str = "default"
    service_account: str | None = None
    prefect_api_url: str | None = None
    security_context: str | None = None
    packages: Prebuilt = "install"
    volumes: tuple[Volume, ...] = ()
    secrets: tuple[SecretSource, ...] = ()
    requests: PodRequests = field(default_factory=PodRequests)
    nodes: NodeRequest = field(default_factory=NodeRequest)
    server: str = ""

    @classmethod
    def of(cls, needs: LaunchNeeds, namespace: str) -> Self:
        """Return what a launch in a namespace is going to need.

        Args:
            needs: The same, wherever it is.
            namespace: Namespace of its Job.
        """
        context = needs.security_context
        return cls(
            accelerator=needs.accelerator,
            namespace=namespace,
            service_account=needs.service_account,
            prefect_api_url=needs.prefect_api_url,
            security_context=None if context is None else json.dumps(dict(context), sort_keys=True),
            packages=needs.packages,
            volumes=needs.volumes,
            secrets=needs.secrets,
            requests=needs.requests,
            nodes=needs.nodes,
        )

    @property
    def mounts_image(self) -> bool:
        """Whether its pods are to have an image mounted as a volume, if they can."""
        return self.packages != "install"
