"""Calling, submitting, mapping and deploying remote functions: their part that needs Prefect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kinetic_flows.api.deployment import Deployment, deployment_of
from kinetic_flows.api.drafts import draft
from kinetic_flows.api.run import Run
from kinetic_flows.api.run_group import RunGroup
from kinetic_flows.clients.prefect.deployments import PrefectDeployments
from kinetic_flows.clients.prefect.schedules import Timing
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.flows import deploy as flow
from kinetic_flows.flows.map import Sweep, SweepRequest
from kinetic_flows.flows.run import execute
from kinetic_flows.plans.deploy_request import check_request
from kinetic_flows.plans.inputs import Inputs, SweepOptions
from kinetic_flows.plans.sweep_outputs import check_sweep_outputs
from kinetic_flows.runs.results import unpack_result

if TYPE_CHECKING:
    from kinetic_flows.api.front import Opening
    from kinetic_flows.api.remote_function import RemoteFunction
    from kinetic_flows.core import watched_options
    from kinetic_flows.core.job import RunTicket
    from kinetic_flows.flows import rehearse_gate
    from kinetic_flows.plans import cost
    from kinetic_flows.plans.draft import Draft
    from kinetic_flows.runs.insight import debugger_words
    from kinetic_flows.runs.session import Session
else:
    debugger_words = LazyModule("kinetic_flows.runs.insight.debugger_words")
    watched_options = LazyModule("kinetic_flows.core.watched_options")
    cost = LazyModule("kinetic_flows.plans.cost")
    # Few functions ask for a rehearsal.
    rehearse_gate = LazyModule("kinetic_flows.flows.rehearse_gate")

CHANGES = {
    "created": "deployed",
    "updated": "deployed anew",
    "unchanged": "deployed already, and unchanged",
}
"""The outcome of `deploy`, in words."""


def call(
    opening: Opening,
    remote: RemoteFunction[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Any:
    """Run a function to its end, and return its value or raise what it raised."""
    drafted = draft(opening, remote, args, kwargs)
    with drafted.open_session() as session:
        launched = execute(_admitted(drafted.draft, session), session, wait=True)
        url = session.api.run_url(launched.ticket.run_id)
    if launched.envelope is None:
        raise LookupError("a run that was waited for has no result envelope")
    return unpack_result(launched.envelope, launched.ticket, url=url)


def submit(
    opening: Opening,
    remote: RemoteFunction[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Run[Any]:
    """Launch a function, and return the handle of its run."""
    drafted = draft(opening, remote, args, kwargs)
    with drafted.open_session() as session:
        ticket = execute(_admitted(drafted.draft, session), session, wait=False).ticket
        if remote.options.debug:
            session.progress.notice(_debugger_words(drafted.draft, ticket))
        url = session.api.run_url(ticket.run_id)
        return Run(ticket=ticket, url=url, cloud=remote.options.cloud)


def _admitted(draft: Draft, session: Session) -> Draft:
    """Return a call as far as its rehearsal lets it be launched, where it asks for one."""
    return rehearse_gate.admitted(draft, session) if draft.call.options.rehearse else draft


def _debugger_words(draft: Draft, ticket: RunTicket) -> str:
    return debugger_words.submitted_words(
        ticket.function or ticket.name,
        ticket.run_id,
        draft.platform.hosts(draft.accelerator),
        str(draft.root.path),
        is_here=draft.platform.sees_files,
    )


def start_map(
    opening: Opening,
    remote: RemoteFunction[..., Any],
    bound: tuple[Any, ...],
    inputs: Inputs,
    options: SweepOptions,
    *,
    return_exceptions: bool,
) -> RunGroup[Any]:
    """Make what the runs of many inputs share, begin to launch them, and return their handle.

    Args:
        opening: What the call begins with.
        remote: The function.
        bound: Arguments in front of every input's.
        inputs: The inputs, as arguments of the function.
        options: How the inputs are run.
        return_exceptions: Whether `results()` returns exceptions in place of values.
    """
    if remote.options.debug:
        watched_options.refuse_debugger("map")
    drafted = draft(opening, remote, bound, {}, may_lack_arguments=True)
    check_sweep_outputs(drafted.draft, inputs.known())
    if options.max_cost is not None:
        for warning in cost.sweep_warnings(options.max_cost, drafted.draft):
            drafted.progress.warning(warning)
    shared = drafted.draft
    if remote.options.rehearse:
        with drafted.open_session() as session:
            shared = _admitted(shared, session)
    request = SweepRequest(
        draft=shared,
        inputs=iter(inputs),
        count=inputs.count,
        options=options,
        samples=inputs.samples(),
        open_session=drafted.open_session,
        tell=drafted.progress.notice,
    )
    sweep = Sweep(request)
    sweep.start()
    return RunGroup(
        id=sweep.group_id,
        name=drafted.draft.name,
        url=sweep.url,
        source=sweep,
        cloud=remote.options.cloud,
        return_exceptions=return_exceptions,
    )


def deploy(
    opening: Opening,
    remote: RemoteFunction[..., Any],
    bound: tuple[Any, ...],
    *,
    timing: Mapping[str, Any],
    **wanted: Any,
) -> Deployment[Any]:
    """Make a deployment of a function.

    Args:
        opening: What the call begins with.
        remote: The function.
        bound: Its first arguments, which runs do not give.
        timing: When it is to run, as `Timing` takes it.
        **wanted: The deployment, as `check_request` takes it.
    """
    if remote.options.debug:
        watched_options.refuse_debugger("deploy")
    request = check_request(remote.fn, bound, timing=Timing(**timing), **wanted)
    drafted = draft(opening, remote, bound, {}, may_lack_arguments=True)
    with drafted.open_session() as session:
        deployed = flow.deploy(_admitted(drafted.draft, session), request, session)
        deployments = PrefectDeployments(session.api)
        made = deployment_of(deployments.read(deployed.id), deployments, deployed.change)
        session.progress.launched(made.url, CHANGES[deployed.change])
        session.progress.notice(f"its runs need a worker: {made.worker_command}")
        return made
