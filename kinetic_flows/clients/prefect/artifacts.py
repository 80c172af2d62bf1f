"""Artifacts of flow runs: read, and replaced."""

from __future__ import annotations

from dataclasses import dataclass

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.errors import translated


@dataclass(frozen=True, kw_only=True)
class MarkdownArtifact:
    """A Markdown text among a flow run's artifacts."""

    id: str
    text: str


class RunArtifacts:
    """The artifacts of flow runs.

    Args:
        api: The Prefect API that has them.
    """

    def __init__(self, api: PrefectApi) -> None:
        self._api = api
        self.url = api.url

    @translated
    def read_markdown(self, run_id: str, key: str) -> MarkdownArtifact | None:
        """Return the oldest Markdown artifact of a run that has a key; None where there is none.

        Args:
            run_id: The flow run.
            key: What the artifact is called.
        """
        wanted = {"key": {"any_": [key]}, "flow_run_id": {"any_": [run_id]}}
        body = {"artifacts": wanted, "sort": "CREATED_DESC"}
        found = self._api.client.request("POST", "/artifacts/filter", json=body).json()
        for artifact in reversed(found):
            if isinstance(artifact["data"], str):
                return MarkdownArtifact(id=artifact["id"], text=artifact["data"])
        return None

    @translated
    def replace_markdown(self, artifact_id: str, markdown: str) -> None:
        """Show another text in place of an artifact's."""
        # Prefect's own method sends the whole text once more, as an event (3.8.8).
        self._api.client.request(
            "PATCH",
            "/artifacts/{id}",
            path_params={"id": artifact_id},
            json={"data": markdown},
        )
