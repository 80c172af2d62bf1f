"""What the work pool's job template is given for one run, as pure values."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.accelerators.image_variables import missing_variables
from kinetic_flows.core.environment import ImageMode
from kinetic_flows.core.image_reference import BUNDLED, CUSTOM
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job_parts import PackagesSpec, SecretSpec
from kinetic_flows.core.options import DEFAULT_SCHEDULE_TIMEOUT_SECONDS, RunOptions
from kinetic_flows.core.pod_security import HOME, of_built_image, of_own_image
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.core.settings.pool_variables import (
    merged,
    template_defaults,
)
from kinetic_flows.core.slug import slug
from kinetic_flows.images.bases import read_bootstrap
from kinetic_flows.platforms.base import JobRequest
from kinetic_flows.platforms.gke.image_volumes import (
    packages_variables,
)
from kinetic_flows.platforms.gke.manifests import base_job_template, container_security
from kinetic_flows.platforms.gke.names import (
    COORDINATOR_PORT,
    HEADLESS_SERVICE,
    SCHEDULE_TIMEOUT_ANNOTATION,
    kubernetes_job_name,
)
from kinetic_flows.platforms.gke.placement import (
    Placement,
    accelerator_tolerations,
    placement_of,
    with_affinity,
)
from kinetic_flows.platforms.gke.requests import (
    Surroundings,
    layered,
    option_variables,
    requests_of,
    with_requests,
)
from kinetic_flows.platforms.gke.secret_references import secret_variables
from kinetic_flows.platforms.gke.slices import SLICES_VARIABLE
from kinetic_flows.platforms.gke.volumes import (
    REQUEST_VARIABLE,
    Asked,
    bytes_in_memory,
    volume_variables,
    with_room,
)

DEVICES_VARIABLE = "KINETIC_DEVICES"
"""Which chips the runner looks for before it calls the function."""

_SIZES = ("cpu", "memory", "ephemeral_storage", "shared_memory")

_HOST_VARIABLES = ("KINETIC_HOSTS", "KINETIC_HOSTNAMES", "KINETIC_COORDINATOR_ADDRESS")


@dataclass(frozen=True, kw_only=True)
class PodRequest:
    """One run as Kubernetes is to run it.

    Attributes:
        run_id: The run's id; empty for a run that a Prefect worker starts, whose Job the worker
            names.
        name: The function's name.
        image: The image, by digest.
        accelerator: What it runs on.
        entrypoint: Program of the container and its first arguments.
        arguments: What follows the entrypoint.
        environment: Variables of the container; no secrets.
        image_environment: The image's own ENV; None when it is not known.
        namespace: Kubernetes namespace.
        max_preemptions: How often a preempted, evicted or lost run starts again; None for 3
            on Spot VMs and 0 elsewhere.
        schedule_timeout_seconds: How long it may wait for its pods; None for ever.
        security_context: What its container may do on its node; None for what the work pool says.
        packages: The packages that are mounted as a volume; None for none.
        volumes: Its data, and what it finds at paths of its file system.
        secrets: Its variables whose values are secret.
        placement: On which nodes it may be, besides those with the accelerator.
        variables: What else people set of the template's variables, as
            `pool_variables.check_job_variables` returns it.
        surroundings: What the cluster has told, by which the pod asks for what fits.
    """

    run_id: str
    name: str
    image: str
    accelerator: Accelerator
    entrypoint: tuple[str, ...] = ("python3", "-u")
    arguments: tuple[str, ...] = ("/app/remote_runner.py",)
    environment: Mapping[str, str] = field(default_factory=dict)
    image_environment: Mapping[str, str] | None = None
    namespace: str = "default"
    max_preemptions: int | None = None
    schedule_timeout_seconds: float | None = DEFAULT_SCHEDULE_TIMEOUT_SECONDS
    security_context: Mapping[str, Any] | None = None
    packages: PackagesSpec | None = None
    volumes: Asked = field(default_factory=Asked)
    secrets: tuple[SecretSpec, ...] = ()
    placement: Placement = field(default_factory=Placement)
    variables: Mapping[str, Any] = field(default_factory=dict)
    surroundings: Surroundings = field(default_factory=Surroundings)

    @property
    def job_name(self) -> str | None:
        """Name of the Job, the same for every attempt to create it; None for a worker's choice."""
        return kubernetes_job_name(self.name, self.run_id) if self.run_id else None


def job_variables(request: PodRequest) -> dict[str, Any]:
    """Return the variables of the `kinetic-gke` work pool's template for one run.

    Variables that nobody sets are left out, so that the work pool's own defaults apply.
    """
    own = {
        "name": None if request.run_id else slug(request.name),
        "job_name": request.job_name,
        "namespace": request.namespace,
        "image": request.image,
        "entrypoint": list(request.entrypoint),
        "command": shlex.join(request.arguments),
        "env": {
            **_device_environment(request),
            **request.environment,
            **_host_environment(request),
        },
        "annotations": {**_schedule_timeout(request), **request.placement.annotations} or None,
        "security_context": request.security_context,
        **_accelerator_variables(request.accelerator),
        **_host_variables(request),
        **request.placement.variables,
        "tolerations": [
            *accelerator_tolerations(request.accelerator),
            *request.placement.tolerations,
        ],
    }
    variables = merged(
        {name: value for name, value in own.items() if value is not None},
        packages_variables(request.packages),
        volume_variables(request.volumes),
        secret_variables(request.secrets),
        request.variables,
    )
    placed = with_affinity(variables, request.placement, request.volumes.template)
    return with_requests(
        with_room(placed, request.volumes),
        request.accelerator,
        request.volumes.template or base_job_template(),
        request.surroundings,
        in_memory=bytes_in_memory(request.volumes),
    )


def job_variables_of(
    request: JobRequest, cloud: CloudSettings, surroundings: Surroundings | None = None
) -> dict[str, Any]:
    """Return the variables of the `kinetic-gke` work pool's template for a run of a function.

    Args:
        request: The run.
        cloud: The cluster's settings.
        surroundings: What the cluster has told, by which the pod asks for what fits; None for
            nothing.
    """
    config = request.image.config
    chosen = chosen_variables(request.options, cloud)
    return job_variables(
        PodRequest(
            run_id=request.run_id,
            name=request.name,
            image=request.image.reference,
            image_environment=config.environment if config else None,
            accelerator=request.accelerator,
            arguments=_bootstrap_arguments(request.mode),
            environment=_user_environment(request.mode),
            security_context=security_context(request.mode, request.accelerator, request.image),
            namespace=cloud.namespace,
            max_preemptions=request.options.max_preemptions,
            schedule_timeout_seconds=request.options.schedule_timeout_seconds,
            packages=request.packages,
            volumes=Asked(
                data=request.data,
                volumes=request.volumes,
                user=_user(request, chosen) if request.data else None,
                template=request.template,
            ),
            secrets=request.secrets,
            placement=placement_of(
                request.options,
                cloud,
                request.accelerator,
                makes_pools=surroundings is not None and surroundings.makes_pools,
            ),
            variables=chosen,
            # What is shown and compared before a run has an id depends on no cluster's words.
            surroundings=(surroundings if request.run_id else None) or Surroundings(),
        )
    )


def chosen_variables(options: RunOptions, cloud: CloudSettings) -> dict[str, Any]:
    """Return what the cluster's settings and the function's options say, which wins."""
    return layered(cloud.job_variables, option_variables(options))


def asked_of_node(
    accelerator: Accelerator, chosen: Mapping[str, Any], template: Mapping[str, Any] | None
) -> dict[str, str]:
    """Return what each pod of a run asks of its node, by the name of the resource.

    Args:
        accelerator: What it runs on.
        chosen: What people set of the template's variables.
        template: The work pool's base job template; None for the one that ships.
    """
    template = template or base_job_template()
    said = requests_of(chosen, template)
    variables = {**merged(template_defaults(template), chosen), "memory": said.memory}
    named = {name.replace("_", "-"): variables.get(name) for name in _SIZES}
    # A request that is not said is the limit.
    if said.memory_limit not in (None, said.memory):
        named["memory-limit"] = said.memory_limit
    if variables.get(REQUEST_VARIABLE):
        named["ephemeral-storage"] = variables[REQUEST_VARIABLE]
    return {name: str(size) for name, size in named.items() if size} | accelerator.resources


def with_security(
    template: Mapping[str, Any], context: Mapping[str, Any] | None, chosen: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a template's variables as they are for a run whose image needs a context."""
    own = {} if context is None else {"security_context": context}
    return merged(template_defaults(template), own, chosen)


def security_context(
    mode: ImageMode, accelerator: Accelerator, image: ResolvedImage | None = None
) -> Mapping[str, Any] | None:
    """Return what a container may do where nobody says; None for what the work pool says.

    Args:
        mode: How its image comes to be.
        accelerator: What it runs on.
        image: Its image; None when it is not known yet.
    """
    if mode != CUSTOM:
        return of_built_image(accelerator.category)
    return of_own_image(image.config.user if image and image.config else None)


def _user(request: JobRequest, chosen: Mapping[str, Any]) -> int | None:
    """Return which user a run's container runs as; None where only its image knows."""
    context = security_context(request.mode, request.accelerator, request.image)
    template = request.template or base_job_template()
    said = container_security(template, with_security(template, context, chosen))
    if "runAsUser" in said:
        return int(said["runAsUser"])
    config = request.image.config
    if config is None:
        return None
    name = config.user.partition(":")[0]
    return int(name) if name.isdigit() else 0 if name in ("", "root") else None


def _user_environment(mode: ImageMode) -> Mapping[str, str]:
    """Name the user of images that run as one they do not know, and where that can write."""
    return {} if mode == CUSTOM else {"HOME": HOME, "USER": "kinetic"}


def _bootstrap_arguments(mode: ImageMode) -> tuple[str, ...]:
    """Return what starts the bootstrap: images that were not built for the run may lack it."""
    if mode == BUNDLED:
        return ("/app/remote_runner.py",)
    return ("-c", read_bootstrap().decode())


def _schedule_timeout(request: PodRequest) -> dict[str, str]:
    """Write on the Job how long it may wait, for every client that observes it."""
    limit = request.schedule_timeout_seconds
    if limit == DEFAULT_SCHEDULE_TIMEOUT_SECONDS:
        return {}
    return {SCHEDULE_TIMEOUT_ANNOTATION: "none" if limit is None else f"{limit:g}"}


def _accelerator_variables(accelerator: Accelerator) -> dict[str, Any]:
    variables: dict[str, Any] = {
        "spot": "true" if accelerator.spot else None,
        "flex_start": "true" if accelerator.flex else None,
    }
    if accelerator.category == "tpu":
        variables["tpu_accelerator"] = accelerator.label
        variables["tpu_topology"] = accelerator.topology
        variables["tpu_chips"] = accelerator.count_per_host
    elif accelerator.category == "gpu":
        variables["gpu_accelerator"] = accelerator.label
        variables["gpu_count"] = accelerator.count_per_host
    return variables


def _device_environment(request: PodRequest) -> dict[str, str]:
    """Tell the runner which chips to look for, and frameworks what the image does not."""
    accelerator, known = request.accelerator, request.image_environment
    if accelerator.category == "cpu":
        return {}
    missing = {} if known is None else missing_variables(accelerator.category, known)
    return {**missing, DEVICES_VARIABLE: f"{accelerator.category}:{accelerator.count_per_host}"}


def _host_variables(request: PodRequest) -> dict[str, Any]:
    """Spell several hosts of one Job; each host's pod counts as a failure of its own."""
    hosts = request.accelerator.hosts_per_slice
    several = hosts > 1
    restarts = request.accelerator.preemptions_tolerated(request.max_preemptions)
    return {
        "hosts": hosts,
        "completion_mode": "Indexed" if several else None,
        "subdomain": HEADLESS_SERVICE if several else None,
        "backoff_limit": restarts * hosts,
    }


def _host_environment(request: PodRequest) -> dict[str, str]:
    """Tell hosts of one another; Kubernetes itself sets `JOB_COMPLETION_INDEX`.

    https://kubernetes.io/docs/tasks/job/job-with-pod-to-pod-communication/
    """
    hosts = request.accelerator.hosts
    if request.accelerator.slices > 1:
        # Each slice's Job is named, and told of the others, when all of them are launched.
        return {SLICES_VARIABLE: str(request.accelerator.slices)}
    if hosts == 1:
        return {}
    if request.job_name is None:
        # The runner works the names out: its host's own starts with the Job's.
        return {"KINETIC_HOSTS": str(hosts), "KINETIC_HOSTS_SERVICE": HEADLESS_SERVICE}
    names = [f"{request.job_name}-{index}.{HEADLESS_SERVICE}" for index in range(hosts)]
    values = (str(hosts), ",".join(names), f"{names[0]}:{COORDINATOR_PORT}")
    return dict(zip(_HOST_VARIABLES, values, strict=True))
