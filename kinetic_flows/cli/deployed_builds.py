"""`kinetic build-image --deployment`: a deployment's run, asked for and watched to its end."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from kinetic_flows.cli.build_image_report import say
from kinetic_flows.clients.prefect.flow_names import BUILD_IMAGE_FLOW
from kinetic_flows.core.display import for_terminal

if TYPE_CHECKING:
    from kinetic_flows.clients.prefect.api import PrefectApi, RunRecord
    from kinetic_flows.flows.build_image import BuildImageParameters


def run_deployment(
    api_url: str,
    name: str,
    parameters: BuildImageParameters,
    *,
    detach: bool,
    as_json: bool,
) -> None:
    """Ask a deployment for a run; what is not given is as the deployment has it.

    Args:
        api_url: The Prefect API.
        name: The deployment, with or without its flow.
        parameters: What is given.
        detach: Return at once.
        as_json: Print a JSON object.

    Raises:
        UsageError: There is no such deployment, or it does not take these parameters.
        RunError: The run has ended without all images.
    """
    from kinetic_flows.clients.prefect.api import connect
    from kinetic_flows.clients.prefect.deployment_runs import ending_error, start_deployment

    given = {key: value for key, value in asdict(parameters).items() if value}
    full_name = name if "/" in name else f"{BUILD_IMAGE_FLOW}/{name}"
    run_id, url = start_deployment(api_url, full_name, given)
    if detach:
        told = json.dumps({"id": run_id, "url": url}) if as_json else f"{run_id}\n{url}"
        print(for_terminal(told))
        return
    say(f"{full_name} was asked for run {run_id}\n  watch it at {url}")
    try:
        with connect(api_url) as api:
            ended = _watched(api, run_id)
    except KeyboardInterrupt:
        say(
            f"\nrun {run_id} goes on\n"
            f"  look at it with: kinetic runs show {run_id}\n"
            f"  cancel it with: prefect flow-run cancel {run_id}"
        )
        raise
    if as_json:
        print(json.dumps({"id": run_id, "url": url, "state": ended.state_name}))
    error = ending_error(ended, url)
    if error is not None:
        raise error
    if not as_json:
        print(f"run {run_id} has made the base images: {url}")


def _watched(api: PrefectApi, run_id: str) -> RunRecord:
    """Tell of each state of a run as it comes, and return its last one."""
    from kinetic_flows.clients.prefect.deployment_runs import state_changes

    for record in state_changes(api, run_id):
        told = f"{record.state_name}: {record.message}" if record.message else record.state_name
        say(f"  {told}")
        if record.state_name == "Late" and record.work_pool:
            say(
                "  no worker has taken it yet; where none runs, start one with: "
                f"prefect worker start --pool {record.work_pool!r}"
            )
        sys.stderr.flush()
    return record
