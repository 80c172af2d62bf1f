"""The table that describes a run on its page in Prefect's UI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kinetic_flows.clients.prefect.flow_names import RUN_ARTIFACT
from kinetic_flows.core.errors import PrefectServerError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.job import RunTicket
from kinetic_flows.plans.draft import Draft
from kinetic_flows.runs.job_template import Prepared
from kinetic_flows.runs.session import Session


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """A run, as its page in Prefect's UI describes it.

    Attributes:
        function: The function's name.
        arguments: Its arguments, as short texts by name.
        accelerator: Its accelerator, by name and in words.
        mode: How its image came to be.
        image: The image's reference, by digest.
        image_page: Where a browser shows the image; None when it has no page.
        environment: The number of packages, and the file that declares them; empty when unknown.
        built_because: Why the image had to be built; empty when it was there.
        code: How much code was shipped.
        outputs: Where the function's files go.
    """

    function: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    accelerator: str
    mode: str
    image: str
    image_page: str | None = None
    environment: str = ""
    built_because: tuple[str, ...] = ()
    code: str
    outputs: str

    def markdown(self) -> str:
        """Return it as a Markdown table."""
        arguments = ", ".join(f"{name}={text}" for name, text in self.arguments.items())
        image = f"[{self.image}]({self.image_page})" if self.image_page else _code(self.image)
        rows = [
            ("function", _code(f"{self.function}({arguments})")),
            ("runs on", self.accelerator),
            ("image", f"{image} ({self.mode})"),
            ("environment", self.environment),
            ("built because", "<br>".join(map(_code, self.built_because))),
            ("code", self.code),
            ("outputs", _code(self.outputs)),
        ]
        lines = [f"| {label} | {text} |" for label, text in rows if text]
        return "\n".join(["| | |", "| --- | --- |", *lines])


def publish_description(
    ticket: RunTicket, draft: Draft, prepared: Prepared, session: Session
) -> None:
    """Publish a run's description as a Markdown artifact of its flow run.

    Args:
        ticket: The run.
        draft: The call.
        prepared: Its image, code and requirements.
        session: Where it reports.
    """
    image = prepared.image.reference
    description = RunDescription(
        function=draft.name,
        arguments=draft.argument_reprs,
        accelerator=f"`{draft.accelerator}`: {draft.accelerator.description}",
        mode=draft.mode,
        image=image,
        image_page=session.platform.image_page(image),
        environment=prepared.environment,
        built_because=prepared.built_because,
        code=f"{draft.snapshot.files} files, {size_in_units(draft.snapshot.size_bytes)}",
        outputs=f"{session.outputs_root}/{ticket.run_id}",
    )
    try:
        session.api.publish_markdown(ticket.run_id, RUN_ARTIFACT, description.markdown())
    except PrefectServerError as error:  # the run is launched, and goes on without
        session.api_availability.failed(error)


def _code(text: str) -> str:
    """Quote a text, whatever is in it, within a cell of a table."""
    flat = text.replace("\n", " ").replace("|", "\\|")
    if not flat:
        return ""
    fence = "``" if "`" in flat else "`"
    return f"{fence}{flat}{fence}"
