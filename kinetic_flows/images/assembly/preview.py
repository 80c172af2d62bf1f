"""What an assembly will take, told before anything is downloaded, made or sent."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kinetic_flows.clients.registry.documents import INDEX_TYPES
from kinetic_flows.clients.registry.manifests import Manifest
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.image_reference import parse_reference
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.assembly.compose import architecture_of
from kinetic_flows.images.assembly.layer_plan import LayerPlan
from kinetic_flows.images.assembly.plan import (
    ImagePlan,
    plan_image,
    settled,
    without_site_packages,
)
from kinetic_flows.images.assembly.records import REQUESTS_AT_A_TIME, LayerRecord, LayerRecords
from kinetic_flows.images.assembly.smoke_test import smoke_test
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.assembly.start import StartImage, read_start
from kinetic_flows.images.layers.model import WheelFacts

_BASE = ("base-cpu", "base-gpu", "base-tpu")


@dataclass(frozen=True, kw_only=True)
class AssemblyPreview:
    """What an assembly will take.

    Attributes:
        survey: What it is told from.
        layers: How many layers the image has.
        known: How many of them there are.
        to_make: The wheels that the others are made of.
        bytes_to_send: About how much is sent to the registry; wheels of unknown size not counted.
        warnings: What the smoke test finds, as far as the wheels are known; a sentence each.
    """

    survey: Survey
    layers: int
    known: int
    to_make: tuple[WheelFile, ...]
    bytes_to_send: int
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        missing = self.layers - self.known
        words = [f"assembled from {self.layers} layers", f"{self.known} known"]
        words += [f"{missing} to make"] if missing else []
        words += [f"{size_in_units(self.bytes_to_send)} to send"] if self.bytes_to_send else []
        return ", ".join(words)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """An assembly as far as it is known without making anything.

    Attributes:
        start: What it starts from.
        plan: The layers it has; those of bytecode whose worth is not known yet are among them.
        records: The layers that the registry has, by their tags.
        facts: What is known of wheels, those of the image it starts from included, by digest.
        is_base: Whether all of the bytecode is one layer, which is there in any case.
    """

    start: StartImage
    plan: ImagePlan
    records: Mapping[str, LayerRecord]
    facts: Mapping[str, WheelFacts]
    is_base: bool

    @property
    def missing(self) -> tuple[LayerPlan, ...]:
        """The layers that have to be made, whatever others turn out to hold."""
        return tuple(layer for layer in self.plan.added if self._is_missing(layer))

    @property
    def layers(self) -> int:
        """How many layers the image has, as far as is known."""
        known = [layer for layer in self.plan.added if layer.tag in self.records]
        return len(self.plan.kept) + len(known) + len(self.missing)

    def _is_missing(self, layer: LayerPlan) -> bool:
        if layer.tag in self.records:
            return False
        is_maybe = layer.kind == "bytecode" and layer.tag not in self.plan.made_from
        wheels = [package.sha256 for package in layer.packages]
        return not is_maybe or self.is_base or all(wheel in self.facts for wheel in wheels)


def look_at(assembly: Assembly, registry: RegistryWriter, records: LayerRecords) -> AssemblyPreview:
    """Return what an assembly will take; nothing is changed.

    Args:
        assembly: The image.
        registry: The registry.
        records: What is known of layers.

    Raises:
        ImageError: What it starts from cannot be read, or a layer's tag is of something else.
    """
    survey = survey_of(assembly, registry, records)
    missing = survey.missing
    wanted = {package.sha256 for layer in missing for package in layer.packages}
    to_make = tuple(wheel for wheel in assembly.wheels if wheel.sha256 in wanted)
    made = {
        package.sha256
        for layer in missing
        if layer.kind != "bytecode"
        for package in layer.packages
    }
    sizes = [wheel.size_bytes for wheel in assembly.wheels if wheel.sha256 in made]
    return AssemblyPreview(
        survey=survey,
        layers=survey.layers,
        known=survey.layers - len(missing),
        to_make=to_make,
        bytes_to_send=sum(sizes) + _bytes_to_copy(assembly, registry, survey),
        warnings=warnings_about(survey, assembly),
    )


def warnings_about(survey: Survey, assembly: Assembly) -> tuple[str, ...]:
    """Return what the smoke test finds, as far as the wheels are known; a sentence each."""
    return smoke_test(
        survey.plan.packages, survey.facts, assembly.python, is_whole=assembly.is_whole
    )


def survey_of(assembly: Assembly, registry: RegistryWriter, records: LayerRecords) -> Survey:
    """Return what an assembly is made of and which of its layers there are.

    Raises:
        ImageError: As `look_at`.
    """
    start = start_of(assembly, registry)
    plan = plan_image(assembly, start)
    found = records.find(assembly.layers, plan.added)
    facts = {**_facts_of_start(start, plan, assembly, records), **facts_in(found.values())}
    is_base = assembly.starts_from == "upstream"
    survey = Survey(start=start, plan=plan, records=found, facts=facts, is_base=is_base)
    return settle(survey, assembly, records)


def settle(survey: Survey, assembly: Assembly, records: LayerRecords) -> Survey:
    """Return a survey without what is not needed, as far as the facts about wheels tell."""
    plan = settled(survey.plan, survey.facts, assembly)
    site = next((layer for layer in plan.added if layer.kind == "site"), None)
    record = survey.records.get(site.tag) if site else None
    found = dict(survey.records)
    if site and record and not site.is_part and assembly.starts_from == "upstream":
        plan = without_site_packages(plan, replace(site, packages=record.packages), assembly)
        part = next(layer for layer in plan.added if layer.kind == "site")
        found.update(records.find(assembly.layers, [part]))
    return replace(survey, plan=plan, records=found)


def start_of(assembly: Assembly, registry: RegistryWriter) -> StartImage:
    """Read the image that an assembly starts from.

    Raises:
        ImageError: There is none, none for the platform, or it cannot be read.
    """
    if assembly.starts_from == "nothing":
        return StartImage()
    name = parse_reference(assembly.start).name
    manifest = _manifest(assembly.start, registry)
    if manifest.media_type in INDEX_TYPES:
        manifest = _manifest(f"{name}@{_for_platform(manifest, assembly)}", registry)
    try:
        digest = str(json.loads(manifest.content)["config"]["digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise ImageError(
            f"{assembly.start} is no image: its manifest has no configuration",
            value=assembly.start,
            hint="correct the reference",
        ) from error
    config = registry.document(name, digest)
    start = read_start(name, manifest.digest, manifest.content, config)
    _check_python(start, assembly)
    return start


def _check_python(start: StartImage, assembly: Assembly) -> None:
    """Refuse an image of another Python, which says so as all official ones do."""
    if start.python not in ("", assembly.python):
        raise ImageError(
            f"{start} has Python {start.python}, and {assembly.reference} is to have "
            f"{assembly.python}",
            value=str(start),
            hint=f"name an image of Python {assembly.python}",
        )


def facts_in(records: Iterable[LayerRecord]) -> dict[str, WheelFacts]:
    """Return the facts about the wheels of layers, by digest."""
    return {facts.sha256: facts for record in records for facts in record.facts if facts.sha256}


def _facts_of_start(
    start: StartImage, plan: ImagePlan, assembly: Assembly, records: LayerRecords
) -> dict[str, WheelFacts]:
    """Return what is known of the wheels of the image that an assembly starts from.

    Bases are copied from registry to registry without the layers' records. Where those are is
    looked at only for what some layers are made from: Docker Hub counts each look as a pull.
    """
    plans = [layer.plan for layer in start.layers if layer.plan]
    layers = [layer for layer in plans if layer.kind in ("wheel", "merged")]
    found = _found(assembly.layers, layers, records)
    sources = [layer.plan for layer in plan.made_from.values() if layer.plan]
    needed = {package for source in sources for package in source.packages}
    beside = _layers_beside(assembly.start)
    unknown = [layer for layer in layers if layer.tag not in found and needed & set(layer.packages)]
    if beside and unknown:
        found.update(_found(beside, unknown, records))
    return facts_in(found.values())


def _found(name: str, layers: Iterable[LayerPlan], records: LayerRecords) -> dict[str, LayerRecord]:
    try:
        return records.find(name, layers)
    except ImageError:
        return {}


def _layers_beside(start: str) -> str:
    """Return the image that keeps the layers of the repository that a base is in; empty if none."""
    name = parse_reference(start).name if start else ""
    found = next((place for kind in _BASE if (place := name.rfind(kind)) > 0), 0)
    return f"{name[:found]}layers" if found else ""


def _bytes_to_copy(assembly: Assembly, registry: RegistryWriter, survey: Survey) -> int:
    """Return how much of the image that it starts from has to come from another registry."""
    target = parse_reference(assembly.reference)
    if not survey.start.name or parse_reference(survey.start.name).registry == target.registry:
        return 0
    blobs = [layer.blob for layer in survey.plan.kept]
    has = in_threads(
        lambda blob: registry.has_blob(target.name, blob.digest), blobs, threads=REQUESTS_AT_A_TIME
    )
    return sum(blob.size_bytes for blob, there in zip(blobs, has, strict=True) if not there)


def _manifest(reference: str, registry: RegistryWriter) -> Manifest:
    found = registry.manifest(reference)
    if found is None:
        raise ImageError(
            f"the image {reference} does not exist",
            value=reference,
            hint="build it again with: kinetic build-image",
        )
    return found


def _for_platform(index: Manifest, assembly: Assembly) -> str:
    """Return the digest of an index's manifest for the platform."""
    wanted = ("linux", architecture_of(assembly.platform))
    entries = json.loads(index.content).get("manifests") or ()
    for entry in entries:
        platform = entry.get("platform") or {}
        if (platform.get("os"), platform.get("architecture")) == wanted:
            return str(entry["digest"])
    raise ImageError(
        f"the image {assembly.start} has no variant for {'/'.join(wanted)}",
        value=assembly.start,
        hint="name another image",
    )
