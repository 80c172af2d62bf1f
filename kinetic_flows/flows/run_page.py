"""What a run's page in Prefect's UI says of it from its launch on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kinetic_flows.clients.prefect.flow_names import RUN_ARTIFACT
from kinetic_flows.code.origin import Origin
from kinetic_flows.core import markdown
from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.display import counted
from kinetic_flows.core.errors import KineticError, PrefectServerError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.job_parts import DataSpec
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.run_page import DETAILS, WHAT_RAN, with_sections
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.planned_list import tried_in_words
from kinetic_flows.plans.secrets import secret_words
from kinetic_flows.runs.description import outputs_page
from kinetic_flows.runs.job_template import Prepared
from kinetic_flows.runs.origin_labels import SHORT_COMMIT
from kinetic_flows.runs.session import Session

if TYPE_CHECKING:
    from kinetic_flows.plans import cost as plan_cost
    from kinetic_flows.plans import rehearsal_look
else:
    # A run on this machine costs nothing, mostly.
    plan_cost = LazyModule("kinetic_flows.plans.cost")
    # Few functions have a rehearsal.
    rehearsal_look = LazyModule("kinetic_flows.plans.rehearsal_look")

CALL_CHARACTERS = 400
"""How much of a call is shown: its parameters stand on a page of their own."""

REASONS = 12
"""How many reasons for a build are listed."""

SOURCES = 8
"""How many sources of data are listed."""

SHORT_DIGEST = 12
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
_CONTENTS = re.compile(r"(?P<packages>.*), `(?P<hash>\w+)`", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class RunDescription:
    """A run, as its page in Prefect's UI describes it.

    Attributes:
        function: The function's name.
        arguments: Its arguments, as short texts by name.
        accelerator: Its accelerator.
        hardware: What that is, in words.
        others: What it may run on besides, with what each is in words, in the order of preference.
        cost: What an hour of it costs, in words; empty where no price is known.
        rehearsed: What the last rehearsal said of each accelerator, in words by its name.
        tried: How one of several is found, in words; empty where there is one.
        left_out: What it was to run on and cannot, and why, a sentence each.
        mode: How its image came to be.
        image: The image's reference, by digest.
        image_page: Where a browser shows the image; None when it has no page.
        images: Images of other accelerators, where that is another one.
        mounted: The image with its packages that it has mounted, by digest; empty for none.
        environment: The number of packages, and the file that declares them; empty when unknown.
        built_because: Why the image had to be built; empty when it was there.
        secrets: Its secret variables, and where they come from; empty for none.
        code: How much code was shipped.
        data: What it reads, as its job says it.
        outputs: Where the function's files go.
        pages: Where else a browser shows something of the run, by what it is.
        origin: Where the call came from; None when that is not told.
    """

    function: str
    arguments: Mapping[str, str] = field(default_factory=dict)
    accelerator: str
    hardware: str
    others: Mapping[str, str] = field(default_factory=dict)
    cost: str = ""
    rehearsed: Mapping[str, str] = field(default_factory=dict)
    tried: str = ""
    left_out: tuple[str, ...] = ()
    mode: str
    image: str
    image_page: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    mounted: str = ""
    environment: str = ""
    built_because: tuple[str, ...] = ()
    secrets: str = ""
    code: str
    outputs: str
    data: tuple[DataSpec, ...] = ()
    pages: Mapping[str, str] = field(default_factory=dict)
    origin: Origin | None = None

    def markdown(self) -> str:
        """Return it as Markdown, in the sections that are known before the run begins."""
        return with_sections(
            "",
            {
                WHAT_RAN: markdown.table(self._what_ran()),
                DETAILS: markdown.table(self._details()),
            },
        )

    def _what_ran(self) -> Iterator[tuple[str, str]]:
        arguments = ", ".join(f"{name}={text}" for name, text in self.arguments.items())
        call = markdown.shortened(f"{self.function}({arguments})", CALL_CHARACTERS)
        yield "function", markdown.code(call)
        yield "runs on", _runs_on(self.accelerator, self.hardware)
        yield from (("or", _runs_on(name, hardware)) for name, hardware in self.others.items())
        yield "costs", markdown.text(self.cost)
        for name, told in self.rehearsed.items():
            on = f" on {markdown.code(name)}" if self.others else ""
            yield "rehearsed", f"{markdown.text(told)}{on}"
        yield "tried", markdown.text(self.tried)
        yield from (("left out", markdown.text(why)) for why in self.left_out)
        yield "code", " · ".join([markdown.text(self.code), *_commit(self.origin)])
        yield from (("data", shown) for shown in _data(self.data))
        yield "called by", _caller(self.origin)
        yield "outputs", _place(self.outputs)
        links = (markdown.link(name, page) for name, page in self.pages.items())
        yield "look at", " · ".join(links)

    def _details(self) -> Iterator[tuple[str, str]]:
        yield "image", f"{_image(self.image, self.image_page)} ({self.mode})"
        for name, image in self.images.items():
            yield "image", f"{_image(image, None)} on {markdown.code(name)}"
        yield "mounted", _image(self.mounted, None) if self.mounted else ""
        yield "environment", _environment(self.environment)
        yield "built because", _reasons(self.built_because)
        yield "secrets", markdown.code(self.secrets) if self.secrets else ""


def _runs_on(accelerator: str, hardware: str) -> str:
    return f"{markdown.code(accelerator)}: {markdown.text(hardware)}"


def _image(reference: str, page: str | None) -> str:
    """Show an image by the end of its name; its digest in full is the run's label."""
    return markdown.link(_DIGEST.sub(r"\1", reference).rpartition("/")[2], page)


def _place(outputs: str) -> str:
    return markdown.link(outputs, outputs_page(outputs))


def _environment(contents: str) -> str:
    found = _CONTENTS.fullmatch(contents)
    if found is None:
        return markdown.text(contents)
    digest = markdown.code(found["hash"][:SHORT_DIGEST])
    return f"{markdown.text(found['packages'])}, {digest}"


def _reasons(reasons: tuple[str, ...]) -> str:
    shown = [markdown.code(reason) for reason in reasons[:REASONS]]
    left_out = len(reasons) - REASONS
    return ", ".join([*shown, *([f"and {left_out} more"] if left_out > 0 else [])])


def _data(data: Sequence[DataSpec]) -> Iterator[str]:
    """Show where data comes from, and what is there by the beginning of its identity."""
    for spec in data[:SOURCES]:
        known = [_hub(spec) if spec.kind == "hub" else _place(spec.source)]
        if spec.size_bytes is not None:
            files = counted(spec.files or 0, "file")
            known.append(markdown.text(f"{files}, {size_in_units(spec.size_bytes)}"))
        known += [markdown.code(spec.identity[:SHORT_DIGEST])] if spec.identity else []
        yield " · ".join(known)
    left_out = len(data) - SOURCES
    if left_out > 0:
        yield f"and {left_out} more"


def _hub(spec: DataSpec) -> str:
    """Show data of the hub, with a link to it at its commit."""
    place = spec.place
    kind = "datasets/" if place["type"] == "dataset" else ""
    below = f"/{place['path']}" if place["path"] else ""
    page = f"{place['endpoint']}/{kind}{place['repository']}/tree/{place['commit']}{below}"
    return markdown.link(spec.source, page)


def _commit(origin: Origin | None) -> list[str]:
    """Say which commit was shipped, and whether the files were what it has."""
    commit = origin.commit if origin else None
    if commit is None or not commit.id:
        return []
    branch = f" on {markdown.code(commit.branch)}" if commit.branch else ""
    changed = ", with changes" if commit.is_dirty else ""
    return [f"commit {markdown.code(commit.id[:SHORT_COMMIT])}{branch}{changed}"]


def _caller(origin: Origin | None) -> str:
    if origin is None:
        return ""
    entry = [f"from {markdown.code(origin.entry)}"] if origin.entry else []
    who = markdown.text(f"{origin.user}@{origin.host}")
    return " · ".join([who, *entry, f"kinetic-flows {markdown.text(origin.client)}"])


def _cost(draft: Draft, accelerators: Sequence[Accelerator], session: Session) -> str:
    """Say what an hour costs; nothing on a machine that costs nothing."""
    is_here, own = session.platform.sees_files, session.settings.own_prices
    if is_here and not own:
        return ""
    return plan_cost.hourly_in_words(
        accelerators, own, draft.call.options.max_cost, is_here=is_here
    )


def _rehearsed(draft: Draft, prepared: Prepared) -> dict[str, str]:
    """Say what the last rehearsal said of each accelerator; nothing where nobody knows."""
    packages = {
        each.draft.accelerator: each.prepared.rehearsed_packages for each in prepared.candidates
    } or {draft.accelerator: prepared.rehearsed_packages}
    try:
        found = rehearsal_look.last_rehearsals(draft, rehearsal_look.subjects_of(draft, packages))
    except KineticError:  # the run is launched, and its page does without
        return {}
    now = datetime.now(UTC)
    return {name: each.planned().words(now) for name, each in found.items()}


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
    first, *others = [each.draft.accelerator for each in prepared.candidates] or [draft.accelerator]
    description = RunDescription(
        function=draft.name,
        arguments=draft.argument_reprs,
        accelerator=str(first),
        hardware=first.description,
        cost=_cost(draft, [first, *others], session),
        others={str(each): each.description for each in others},
        rehearsed=_rehearsed(draft, prepared) if draft.rehearsal else {},
        tried=tried_in_words(draft.call.options) if prepared.candidates else "",
        left_out=prepared.left_out,
        images={
            str(each.draft.accelerator): each.prepared.image.reference
            for each in prepared.candidates
            if each.prepared.image.reference != image
        },
        mode=draft.mode,
        image=image,
        image_page=session.platform.image_page(image),
        mounted=prepared.packages.image if prepared.packages else "",
        environment=prepared.environment,
        built_because=prepared.built_because,
        secrets=secret_words(draft),
        code=f"{counted(draft.snapshot.files, 'file')}, {size_in_units(draft.snapshot.size_bytes)}",
        outputs=draft.output.place
        if draft.output
        else f"{session.outputs_root}/{ticket.result_run_id or ticket.run_id}",
        data=tuple(draft.sources.spec(each) for each in draft.data),
        pages=session.platform.run_pages(ticket),
        origin=prepared.origin,
    )
    try:
        session.api.publish_markdown(
            ticket.run_id,
            RUN_ARTIFACT,
            description.markdown(),
            description=markdown.text(ticket.name),
        )
    except PrefectServerError as error:  # the run is launched, and goes on without
        session.api_availability.failed(error)
