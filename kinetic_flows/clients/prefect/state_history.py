"""The states that a flow run has been in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.errors import translated


@dataclass(frozen=True, kw_only=True)
class StateRecord:
    """A state that a flow run has been in.

    Attributes:
        name: The state's name, such as `Retrying`.
        type: Prefect's state type, such as `RUNNING`.
        message: What was said about it; empty for nothing.
        since: When the flow run came into it.
    """

    name: str
    type: str
    message: str
    since: datetime


class FlowRunHistory:
    """The states of flow runs behind one Prefect API.

    Args:
        api: The API.
    """

    def __init__(self, api: PrefectApi) -> None:
        self._api = api
        self.url = api.url

    @translated
    def states(self, run_id: str) -> list[StateRecord]:
        """Return the states that a flow run has been in, oldest first.

        Raises:
            RunNotFoundError: No flow run has this id.
        """
        found = self._api.client.read_flow_run_states(UUID(run_id))
        records = [
            StateRecord(
                name=each.name or each.type.value.title(),
                type=each.type.value,
                message=each.message or "",
                since=each.timestamp,
            )
            for each in found
        ]
        return sorted(records, key=lambda each: each.since)
