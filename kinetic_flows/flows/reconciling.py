"""The flow `kinetic-reconcile`: looks after runs that nobody watches.

Waiting for a run, attaching to it and listing runs bring states up to date. On a schedule,
this flow does it for runs without a client: see `prefect.yaml` beside the worker's manifests.
It needs the settings that runs are launched with, and access to the cluster.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed

from kinetic_flows.clients.prefect.flow_names import RECONCILE_FLOW
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.runs.candidates.withdrawn import remove_withdrawn
from kinetic_flows.runs.reconcile import crash_abandoned_parents, reconcile, withdraw_launches
from kinetic_flows.runs.session import configure, connect_session


@flow(
    name=RECONCILE_FLOW,
    version="1",
    retries=0,
    retry_delay_seconds=0,
    log_prints=False,
    persist_result=False,
)
def kinetic_reconcile() -> State[Any]:
    """Settle runs whose process, pod or client is gone, waits too long, or was cancelled."""
    logger = get_run_logger()
    environ = process_environment()
    settings = configure(load_settings(environ), environ, NullProgress())
    platform = choose_platform(settings, environ)
    with connect_session(settings, environ, NullProgress(), platform) as session:
        session.ledger.crash_orphans(session.api)
        found = reconcile(platform, session.api)
        withdraw_launches(platform)
        parents = crash_abandoned_parents(platform, session.api)
        withdrawn = remove_withdrawn(platform, session.api)
    for run_id in found.ended:
        logger.info("run %s is over", run_id)
    for flow_run_id in parents:
        logger.info("the client of flow run %s is gone", flow_run_id)
    for flow_run_id in withdrawn:
        logger.info("launch %s was withdrawn, and waits no more", flow_run_id)
    return Completed(
        message=f"{len(found.looked_at)} unfinished runs looked at, {len(found.ended)} settled"
    )
