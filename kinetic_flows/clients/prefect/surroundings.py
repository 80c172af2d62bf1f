"""The flow run that a call is made in, and the tags of `prefect.tags()` around it."""

from __future__ import annotations

from kinetic_flows.clients.prefect import sdk


def surrounding_api_url() -> str | None:
    """Return the API of the flow run that this code is part of; None outside of any.

    A flow run may be driven by Prefect's ephemeral server, which no setting names.
    """
    flow_run = sdk.context.FlowRunContext.get()
    return str(flow_run.client.api_url).rstrip("/") if flow_run and flow_run.client else None


def surrounding_flow_run_id() -> str | None:
    """Return the flow run that this code is part of; None outside of any."""
    context = sdk.context.FlowRunContext.get()
    return str(context.flow_run.id) if context and context.flow_run else None


def surrounding_tags() -> tuple[str, ...]:
    """Return the tags that `prefect.tags()` gives to all runs that are made in its block."""
    return tuple(sorted(sdk.context.TagsContext.get().current_tags))
