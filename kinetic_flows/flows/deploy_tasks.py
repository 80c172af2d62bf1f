"""Tasks that keep what a deployment's runs need, and create or change the deployment."""

from __future__ import annotations

from kinetic_flows.clients.prefect.deployments import NewDeployment, PrefectDeployments
from kinetic_flows.clients.prefect.flow_names import TASK_CREATE_DEPLOYMENT, TASK_PIN_OBJECTS
from kinetic_flows.core.job import JobSpec
from kinetic_flows.flows.own_tasks import own_task
from kinetic_flows.flows.steps import step
from kinetic_flows.runs.deployment_objects import DeployedJob, deploy_job, remove_other_versions
from kinetic_flows.runs.session import Session


@own_task(TASK_PIN_OBJECTS)
def pin_objects_task(job: JobSpec, payload: bytes, prefix: str, session: Session) -> DeployedJob:
    """Keep a deployment's code, payload and runner for as long as the deployment needs them."""
    with step(session.progress, TASK_PIN_OBJECTS) as current:
        pinned = deploy_job(job, payload, prefix, session.platform.store)
        current.finish(f"{pinned.version_prefix} ({pinned.copied} new objects)")
        return pinned


@own_task(TASK_CREATE_DEPLOYMENT)
def create_deployment_task(
    new: NewDeployment, pinned: DeployedJob, is_known: bool, session: Session
) -> str:
    """Create the deployment, or bring it up to date, and remove what it no longer needs."""
    with step(session.progress, TASK_CREATE_DEPLOYMENT) as current:
        deployment_id = PrefectDeployments(session.api).save(new)
        removed = remove_other_versions(pinned, deployment_id, session.platform.store, session.api)
        told = f"; {removed} objects of earlier versions removed" if removed else ""
        verb = "updated" if is_known else "created"
        current.finish(f"{new.flow}/{new.name} {verb}{told}")
        return deployment_id
