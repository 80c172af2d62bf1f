"""What launching a run is going to need of a cluster, which a preflight looks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.data import Data
from kinetic_flows.core.environment import ImageMode
from kinetic_flows.core.image_reference import CUSTOM, PREBUILT
from kinetic_flows.core.launcher import LaunchNeeds
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.secret_sources import SecretSource
from kinetic_flows.core.settings.cloud import CloudSettings, Prebuilt
from kinetic_flows.core.settings.pool_variables import unknown_variables
from kinetic_flows.core.volumes import Volume
from kinetic_flows.platforms.gke.image_volumes import VARIABLES, template_obstacle
from kinetic_flows.platforms.gke.job_variables import (
    chosen_variables,
    security_context,
    with_security,
)
from kinetic_flows.platforms.gke.manifests import base_job_template, container_security
from kinetic_flows.platforms.gke.placement import (
    Placement,
    node_request,
    placement_of,
    variables_obstacle,
)
from kinetic_flows.platforms.gke.requests import requests_of, static_obstacle
from kinetic_flows.platforms.gke.secret_references import secret_obstacle, secrets_of_pod
from kinetic_flows.platforms.gke.slices import slices_obstacle
from kinetic_flows.platforms.gke.volumes import volume_obstacle, volumes_of_pod


def launch_needs_of(
    accelerator: Accelerator,
    mode: ImageMode,
    options: RunOptions,
    cloud: CloudSettings,
    template: Mapping[str, Any] | None,
    prefect_api_url: str | None,
    data: tuple[Data, ...],
) -> LaunchNeeds:
    """Return what launching a run with these options is going to need; see `launch_needs`.

    Args:
        accelerator: What it runs on.
        mode: How its image comes to be.
        options: How it is to run.
        cloud: The settings of the cluster.
        template: The work pool's base job template; None for the one that ships.
        prefect_api_url: Where it is to report; None when that is not known.
        data: The data among its arguments.
    """
    return launch_needs(
        accelerator,
        mode,
        chosen_variables(options, cloud),
        template,
        prefect_api_url,
        cloud.prebuilt,
        volumes_of_pod(options, data),
        secrets_of_pod(options),
        placement_of(options, cloud, accelerator),
    )


def launch_needs(
    accelerator: Accelerator,
    mode: ImageMode,
    chosen: Mapping[str, Any],
    template: Mapping[str, Any] | None,
    prefect_api_url: str | None,
    prebuilt: Prebuilt = "install",
    volumes: tuple[Volume, ...] = (),
    secrets: tuple[SecretSource, ...] = (),
    placement: Placement | None = None,
) -> LaunchNeeds:
    """Return what launching a run is going to need of the cluster.

    Args:
        accelerator: What it runs on.
        mode: How its image comes to be.
        chosen: What people set of the template's variables.
        template: The work pool's base job template; None for the one that ships.
        prefect_api_url: Where it is to report; None when that is not known.
        prebuilt: How packages come into a prebuilt image.
        volumes: What its pods are to have mounted.
        secrets: Which keys of Kubernetes Secrets they are to have.
        placement: Where they may be; None for anywhere.
    """
    template, placed = template or base_job_template(), placement or Placement()
    context = security_context(mode, accelerator)
    variables = with_security(template, context, chosen)
    # Which user an image of one's own has is known once it is looked up.
    is_told = mode != CUSTOM or "security_context" in chosen
    requests = requests_of(chosen, template)
    return LaunchNeeds(
        accelerator=accelerator,
        service_account=variables.get("service_account_name"),
        prefect_api_url=prefect_api_url,
        security_context=container_security(template, variables) if is_told else None,
        packages=prebuilt if mode == PREBUILT else "install",
        no_packages_volume=template_obstacle(unknown_variables(VARIABLES, template)),
        volumes=volumes,
        no_volumes=volume_obstacle(len(volumes), template),
        secrets=secrets,
        no_secrets=secret_obstacle(secrets, template),
        requests=requests,
        no_slices=slices_obstacle(accelerator, template),
        no_room=static_obstacle(accelerator, requests),
        no_variables=variables_obstacle(accelerator, placed, chosen, template),
        nodes=node_request(accelerator, placed, variables, template),
    )
