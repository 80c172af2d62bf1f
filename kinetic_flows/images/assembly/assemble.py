"""Assembling an image: the layers that are missing are made and sent, the manifest comes last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.errors import BuildError
from kinetic_flows.core.files import scratch_directory, size_in_units
from kinetic_flows.core.wheel_file import WheelSource
from kinetic_flows.images.assembly.base_check import base_problems, is_base
from kinetic_flows.images.assembly.compose import ImageLayer, compose
from kinetic_flows.images.assembly.kept import KeptLayers
from kinetic_flows.images.assembly.preview import (
    Survey,
    facts_in,
    settle,
    survey_of,
    warnings_about,
)
from kinetic_flows.images.assembly.push import LayersLost, Push
from kinetic_flows.images.assembly.records import LayerRecords
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.assembly.workshop import Talk, Workshop
from kinetic_flows.images.layers.bytecode import Compiler

OnOutput = Callable[[str], None]

LOSSES = 2
"""How often layers are made again that the registry turns out to have lost."""


def assemble(
    assembly: Assembly,
    registry: RegistryWriter,
    wheels: WheelSource,
    *,
    home: Path,
    environ: Mapping[str, str],
    on_output: OnOutput,
    survey: Survey | None = None,
) -> str:
    """Assemble an image, push it under its names, and return its digest.

    What it is made of depends on the assembly alone: every machine makes the same image of it.
    Layers are sent before the manifest that names them, so there is a whole image or none. What
    was made when it was interrupted is used by the next assembly here.

    Args:
        assembly: The image.
        registry: The registry.
        wheels: Where wheels come from that there are no layers of.
        home: `KINETIC_HOME`, which keeps what is known of layers.
        environ: Environment variables that an interpreter is looked for with.
        on_output: Takes each line of progress; called from several threads, one at a time.
        survey: What a look at it found a moment ago; None to look. Layers that others have made
            since are found before they are sent.

    Returns:
        The digest of its manifest (`sha256:…`).

    Raises:
        ImageError: What it starts from cannot be used, a wheel is refused, or the registry
            refuses something.
        BuildError: A base lacks what runs need.
        KineticError: A wheel cannot be had.
        KeyboardInterrupt: It was interrupted.
    """
    records, kept = LayerRecords(registry, home), KeptLayers(home)
    kept.tidy()
    talk = Talk(on_output)
    with (
        scratch_directory(home) as scratch,
        Compiler(assembly.python, environ) as compiler,
    ):
        shop = Workshop(
            assembly=assembly,
            registry=registry,
            records=records,
            wheels=wheels,
            compiler=compiler,
            kept=kept,
            scratch=scratch,
            talk=talk,
        )
        try:
            digest = _assemble(shop, survey or survey_of(assembly, registry, records))
        except BaseException:
            # Threads that still make or send something end at their next step.
            talk.stop()
            raise
        finally:
            kept.discard_sent()
    return digest


def _assemble(shop: Workshop, survey: Survey) -> str:
    sent = shop.registry.sent_bytes
    survey = _complete(shop, survey)
    _check_base(shop.assembly, survey)
    for sentence in warnings_about(survey, shop.assembly):
        shop.talk.say(f"warning: {sentence}")
    for _ in range(LOSSES):
        try:
            digest = _push(shop, survey)
            break
        except LayersLost as lost:
            survey = _made_again(shop, survey, lost.layers)
    else:
        digest = _push(shop, survey)
    shop.talk.say(f"{size_in_units(shop.registry.sent_bytes - sent)} sent in all")
    return digest


def _complete(shop: Workshop, survey: Survey) -> Survey:
    """Have every layer made that the registry lacks."""
    missing = survey.missing
    for tag in survey.records:
        # Of an assembly that died after it had sent them.
        shop.kept.discard(tag)
    if missing:
        shop.talk.say(f"making {len(missing)} of {survey.layers} layers")
        shop.records.tidy()
    while missing:
        made = shop.make_all(survey, missing)
        records = {**survey.records, **made}
        facts = {**survey.facts, **facts_in(made.values())}
        survey = settle(replace(survey, records=records, facts=facts), shop.assembly, shop.records)
        missing = survey.missing
    return survey


def _check_base(assembly: Assembly, survey: Survey) -> None:
    """Hold a base to what runs need.

    Raises:
        BuildError: It lacks some of it.
    """
    if is_base(assembly):
        site = next((layer for layer in survey.plan.added if layer.kind == "site"), None)
        problems = base_problems(
            assembly,
            survey.facts.values(),
            python=survey.start.python or None,
            glibc=(survey.records[site.tag].glibc if site else "") or None,
        )
        if problems:
            raise BuildError(
                f"the base {assembly.reference} cannot do what runs need: {'; '.join(problems)}",
                value=assembly.reference,
                hint="nothing was published; correct its lock, or the image that it starts from",
            )


def _push(shop: Workshop, survey: Survey) -> str:
    layers = [
        ImageLayer(plan=plan, blob=survey.records[plan.tag].blob) for plan in survey.plan.added
    ]
    image = compose(shop.assembly, survey.start, survey.plan.kept, layers)
    push = Push(image=image, start=survey.start, kept=survey.plan.kept, layers=layers, shop=shop)
    for reference in (shop.assembly.reference, *shop.assembly.also):
        push.to(reference)
        shop.talk.say(f"pushed {reference}@{image.digest}")
    return image.digest


def _made_again(shop: Workshop, survey: Survey, lost: Sequence[ImageLayer]) -> Survey:
    """Make layers anew that the registry has records of and nothing else."""
    made = {}
    for layer in lost:
        shop.talk.say(f"layer {layer.plan.title}: the registry has lost it, it is made again")
        shop.records.forget(shop.assembly.layers, layer.plan.tag)
        record = shop.provide(survey, layer.plan, lost=layer.blob.digest)
        made[record.tag] = record
    return replace(survey, records={**survey.records, **made})
