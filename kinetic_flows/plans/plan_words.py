"""A plan in words: a few lines where it is one of many things, and all of it where it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from kinetic_flows.clients.prefect.timings import PHASES
from kinetic_flows.core.cards import Card
from kinetic_flows.core.display import counted, labelled
from kinetic_flows.core.environment import size_in_words
from kinetic_flows.core.files import printable, size_in_units
from kinetic_flows.core.moments import duration
from kinetic_flows.plans.planned_cost import cost_rows
from kinetic_flows.plans.planned_list import tried_in_words
from kinetic_flows.platforms.choose import title_of

if TYPE_CHECKING:
    from kinetic_flows.plans.past import PastRuns
    from kinetic_flows.plans.plan import RunPlan
    from kinetic_flows.plans.planned_list import PlannedCandidate, PlannedList

Row = tuple[str, str]

LARGEST = 3
"""How many files are named where not all are listed."""

NOTICED_SECONDS = 0.5
"""Phases that took less are not told."""

LONGEST_VALUE = 60
"""How much of a variable's value is shown."""

SHORT_IDENTITY = 12
"""How much of an identity is shown, as of other digests."""

_DATA_WORDS = {
    "in place": "(used where it is)",
    "sent": "(sent to the store)",
    "fetched": "(fetched by the run)",
    "mounted": "(mounted)",
}
_CACHED_WORDS: Mapping[bool | None, str] = {
    True: "exists",
    False: "has to be built",
    None: "not looked up",
}


def explained(plan: RunPlan, *, files: bool, columns: int | None) -> str:
    """Return a plan as text for people, a label and a text on each line.

    Args:
        plan: The plan.
        files: Whether to list every file that ships.
        columns: How wide a line may be; None for any width.
    """
    groups = [
        [("function", plan.name), *_where(plan)],
        *([list(_hardware(plan))] if plan.choice is None else _candidates(plan, plan.choice)),
        list(_image(plan)),
        [
            *_code(plan, files=files),
            *_data(plan),
            *_volumes(plan),
            *_variables(plan),
            *_captured(plan),
            *_outputs(plan),
        ],
        [
            *_times(plan),
            *([] if plan.choice else [*_rehearsed(plan), *_cost(plan.platform, plan)]),
        ],
        [
            *(("note", line) for line in plan.notices),
            *(("left out", line) for line in plan.filtered),
            *(("warning", line) for line in plan.warnings),
            *(("in the way", line) for line in plan.obstacles),
        ],
    ]
    # Aligned together, and set apart by what they answer.
    width = max(len(label) for group in groups for label, _ in group)
    return "\n\n".join(
        labelled(group, label_width=width, columns=columns) for group in groups if group
    )


def summary(plan: RunPlan) -> list[str]:
    """Return a plan in a few lines: where it runs, from which image, what ships, what is wrong."""
    what = f"{plan.image} ({plan.mode}, {_CACHED_WORDS[plan.cached]})"
    lines = [f"<RunPlan {plan.name} on {plan.accelerator}, {title_of(plan.platform)}", f"  {what}"]
    about = [code_in_words(plan)] if plan.code else []
    about += [data_in_words(plan)] if plan.data else []
    about += [f"took {duration(plan.past.median_seconds)}"] if plan.past else []
    counts = ((len(plan.warnings), "warning"), (len(plan.obstacles), "obstacle"))
    about += [counted(count, noun) for count, noun in counts if count]
    return [*lines, f"  {'; '.join(about)}>"] if about else [*lines[:-1], f"{lines[-1]}>"]


def card(plan: RunPlan) -> Card:
    """Return a plan for a notebook: the most important, and all of it folded away."""
    past = plan.past
    rows = (
        ("where", f"{plan.accelerator}, {title_of(plan.platform)}"),
        *_choice(plan.choice),
        ("image", f"{plan.image} ({plan.mode}, {_CACHED_WORDS[plan.cached]})"),
        ("code", code_in_words(plan) if plan.code else ""),
        ("data", data_in_words(plan) if plan.data else ""),
        ("took", duration(past.median_seconds) if past else ""),
        *([] if plan.choice else _rehearsed(plan)),
        *(("warning", line) for line in plan.warnings),
        *(("in the way", line) for line in plan.obstacles),
    )
    return Card(
        kind="RunPlan",
        title=plan.name,
        rows=rows,
        details=explained(plan, files=False, columns=None),
    )


def code_in_words(plan: RunPlan) -> str:
    """Return how much code ships: `3 files, 1.5 MB`; nothing where none does."""
    if plan.code is None:
        return ""
    return f"{counted(plan.code.files, 'file')}, {size_in_units(plan.code.size_bytes)}"


def data_in_words(plan: RunPlan) -> str:
    """Return how much data a run reads: `2 sources of data, 1.5 GB`."""
    sizes = [item.size_bytes for item in plan.data if item.size_bytes is not None]
    size = f", {size_in_units(sum(sizes))}" if len(sizes) == len(plan.data) else ""
    return f"{counted(len(plan.data), 'source')} of data{size}"


def _where(plan: RunPlan) -> Iterator[Row]:
    yield "runs on", f"{plan.accelerator}, {title_of(plan.platform)}"
    if plan.choice:
        yield "tried", tried_in_words(plan.choice)
    where = dict(plan.where)
    if "cluster" in where:
        names = ("cluster", "location", "project", "namespace")
        cluster, location, project, namespace = (where.pop(name, "") for name in names)
        yield "cluster", f"{cluster} in {location}, project {project}, namespace {namespace}"
    for name, value in where.items():
        yield name.replace("_", " "), value
    if plan.where:
        yield "prefect", plan.prefect_api or "the background server, which the call starts"
    if plan.dispatched_by and plan.platform != "local":
        started = {"client": "this program", "worker": "a Prefect worker of the work pool"}
        yield "started by", started.get(plan.dispatched_by, plan.dispatched_by)


def _choice(choice: PlannedList | None) -> Iterator[Row]:
    """Say how one of several accelerators is found, and which of them cannot be had."""
    if choice is None:
        return
    yield "tried", tried_in_words(choice)
    for each in choice.candidates:
        yield from (("left out", f"{each.accelerator}: {why}") for why in each.left_out)


def _candidates(plan: RunPlan, choice: PlannedList) -> Iterator[list[Row]]:
    """Return what each accelerator of a list is, and what differs between them."""
    images = {each.image for each in choice.candidates}
    for number, each in enumerate(choice.candidates, start=1):
        rows = [(f"{number}.", each.accelerator), *_hardware(each)]
        if len(images) > 1:
            rows.append(("image", f"{each.image} ({_CACHED_WORDS[each.cached]})"))
        if each.past:
            rows.append(("took", _took(each.past)))
        rows += _rehearsed(each)
        rows += _cost(plan.platform, each)
        yield [*rows, *(("left out", why) for why in each.left_out)]


def _hardware(plan: RunPlan | PlannedCandidate) -> Iterator[Row]:
    told = plan.hardware
    if told.get("count"):
        several = f", in {told['slices']} slices" if told.get("slices", 1) > 1 else ""
        yield "machine", f"{counted(told['hosts'], 'host')} of {told['machine_type']}{several}"
        unit = "TPU chip" if told["category"] == "tpu" else "GPU"
        topology = f", topology {told['topology']}" if told["topology"] else ""
        memory = f", {told['memory_gb']} GB each" if told["memory_gb"] else ""
        spot = ", Spot VMs" if told["spot"] else ", flex-start" if told.get("flex") else ""
        yield "chips", f"{counted(told['count'], unit)}{topology}{memory}{spot}"
    elif told.get("hosts", 1) > 1:
        yield "hosts", f"{told['hosts']}, each calls the function"
    if plan.asks_for:
        each = " a host" if told.get("hosts", 1) > 1 else ""
        asked = ", ".join(f"{name} {size}" for name, size in plan.asks_for.items())
        yield "asks for", f"{asked}{each}"
    for room in plan.rooms or ():
        yield "node pool", room


def _image(plan: RunPlan) -> Iterator[Row]:
    yield "image", f"{plan.image} ({plan.mode}, {_CACHED_WORDS[plan.cached]})"
    if plan.size_bytes is not None:
        yield "size", size_in_words(plan.size_bytes)
    if plan.packages_image:
        yield "mounted", f"{plan.packages_image} ({_CACHED_WORDS[plan.packages_cached]})"
    took = f"; the last builds took {_took(plan.builds)}" if plan.builds else ""
    if plan.making:
        yield "", str(plan.making)
        yield "builder", f"{plan.making.who}{took}"
    else:
        yield "build", f"{plan.build_step}{took}"
    yield from (("why", line) for line in plan.why or ())
    yield "dependencies", _dependencies(plan)
    environment = plan.environment
    if environment and environment.variant == "lean":
        yield "base", f"{environment.category}-lean, which has no framework of its own"
    if environment:
        yield "packages", f"{len(environment.packages)} locked"
        yield "hash", environment.dependency_hash


def _dependencies(plan: RunPlan) -> str:
    come = plan.packages_come[0].lower() + plan.packages_come[1:]
    if plan.environment is None:
        return f"{come} ({plan.dependency_source} is ignored)" if plan.dependency_file else come
    return f"{plan.dependency_source}, {come}"


def _code(plan: RunPlan, *, files: bool) -> Iterator[Row]:
    if plan.code is None:
        return
    below = f" of {plan.root}" if plan.root else ""
    yield "code", f"{code_in_words(plan)}{below}"
    if files:
        sizes = [size_in_units(item.size_bytes) for item in plan.files]
        width = max(map(len, sizes), default=0)
        for size, item in zip(sizes, plan.files, strict=True):
            yield "", f"{size.rjust(width)}  {printable(item.path)}"
    elif len(plan.files) > LARGEST:
        largest = sorted(plan.files, key=lambda item: -item.size_bytes)[:LARGEST]
        named = (f"{printable(item.path)} ({size_in_units(item.size_bytes)})" for item in largest)
        yield "largest", ", ".join(named)


def _data(plan: RunPlan) -> Iterator[Row]:
    for item in plan.data:
        yield (
            "data",
            f"{item.source} {_DATA_WORDS[item.how]}" + (f" at {item.at}" if item.at else ""),
        )
        known = [counted(item.files, "file")] if item.files is not None else []
        known += [size_in_units(item.size_bytes)] if item.size_bytes is not None else []
        known += [f"identity {item.identity[:SHORT_IDENTITY]}"] if item.identity else []
        if item.unsent_bytes is not None:
            known.append(
                f"{size_in_units(item.unsent_bytes)} to send"
                if item.unsent_bytes
                else "nothing to send"
            )
        if known:
            yield "", ", ".join(known)


def _volumes(plan: RunPlan) -> Iterator[Row]:
    for item in plan.volumes:
        yield "volume", f"{item.volume} at {item.path}{', read-only' if item.read_only else ''}"


def _variables(plan: RunPlan) -> Iterator[Row]:
    for item in plan.variables:
        if item.value is None:
            yield "variable", f"{item.name} ({item.source}; its value is not shown)"
        else:
            yield "variable", f"{item.name}={_shortened(item.value)} ({item.source})"


def _captured(plan: RunPlan) -> Iterator[Row]:
    if plan.captured:
        yield "captured", ", ".join(plan.captured)


def _outputs(plan: RunPlan) -> Iterator[Row]:
    if plan.outputs:
        yield "outputs", plan.outputs


def _shortened(value: str) -> str:
    return value if len(value) <= LONGEST_VALUE else f"{value[: LONGEST_VALUE - 1]}…"


def _times(plan: RunPlan) -> Iterator[Row]:
    if plan.past is None or plan.choice:
        return
    yield "took", _took(plan.past)
    known = [(phase, took) for phase, took in plan.past.phases.items() if took >= NOTICED_SECONDS]
    if known:
        yield "phases", ", ".join(f"{PHASES[phase]} {duration(took)}" for phase, took in known)


def _rehearsed(each: RunPlan | PlannedCandidate) -> Iterator[Row]:
    if each.rehearsed:
        yield "rehearsed", each.rehearsed.words(datetime.now(UTC))


def _cost(platform: str, each: RunPlan | PlannedCandidate) -> Iterator[Row]:
    return cost_rows(each.cost, each.hardware if platform != "local" else {})


def _took(past: PastRuns) -> str:
    if past.count == 1:
        return f"{duration(past.last_seconds)}, once"
    times = f"the last {past.count} times"
    return (
        f"{duration(past.median_seconds)} (median of {times}), {duration(past.last_seconds)} last"
    )
