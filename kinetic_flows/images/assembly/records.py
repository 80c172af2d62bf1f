"""What is known of layers that a registry keeps: on this machine, else asked of the registry.

A layer is an image of one layer, under a tag that says what it is made from. Its configuration has
what there is to know of it without pulling it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.images.assembly.layer_plan import HeldPackage, LayerPlan
from kinetic_flows.images.layers.model import LayerBlob, WheelFacts

REQUESTS_AT_A_TIME = 16
MAX_AGE_SECONDS = 90 * 86400.0
"""How long something is remembered on this machine; then the registry is asked again."""


@dataclass(frozen=True, kw_only=True)
class LayerRecord:
    """What is known of a layer.

    Attributes:
        tag: Its tag.
        blob: Its digests and size.
        facts: Of each wheel in it; of a site layer, of each package of the image of Python.
        glibc: Of a site layer: release of that image's C library; empty where it has none.
    """

    tag: str
    blob: LayerBlob
    facts: tuple[WheelFacts, ...] = ()
    glibc: str = ""

    @property
    def packages(self) -> tuple[HeldPackage, ...]:
        """The packages that it holds, sorted."""
        return tuple(
            sorted(
                HeldPackage(name=item.name, version=item.version, sha256=item.sha256)
                for item in self.facts
            )
        )

    def to_json(self) -> bytes:
        """Return it as text."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> LayerRecord:
        """Read what `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        found = json.loads(text)
        try:
            blob, facts = LayerBlob(**found["blob"]), read_facts(found["facts"])
            return cls(tag=str(found["tag"]), blob=blob, facts=facts, glibc=str(found["glibc"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no record of a layer: {error!r}") from error


def read_facts(found: Iterable[Mapping[str, Any]]) -> tuple[WheelFacts, ...]:
    """Return the facts of wheels from plain JSON values."""
    return tuple(
        WheelFacts(**{**item, "requires": tuple(item["requires"]), "files": dict(item["files"])})
        for item in found
    )


class LayerRecords:
    """What is known of layers.

    Args:
        registry: The registry that keeps them.
        home: `KINETIC_HOME`.
    """

    def __init__(self, registry: RegistryWriter, home: Path) -> None:
        self._registry = registry
        self._directory = home / "layers" / "records"
        self._known: dict[tuple[str, str], LayerRecord] = {}

    def find(self, name: str, plans: Iterable[LayerPlan]) -> dict[str, LayerRecord]:
        """Return what is known of layers, by their tags; those that there are not are left out.

        Args:
            name: Name of the image that keeps them.
            plans: The layers.

        Raises:
            ImageError: A tag is of something else, or the registry gives no usable answer.
        """
        wanted = list({plan.tag: plan for plan in plans}.values())
        found = {plan.tag: self.known(name, plan.tag) for plan in wanted}
        unknown = [plan for plan in wanted if found[plan.tag] is None]
        answers = in_threads(lambda plan: self.ask(name, plan), unknown, threads=REQUESTS_AT_A_TIME)
        found.update((plan.tag, answer) for plan, answer in zip(unknown, answers, strict=True))
        return {tag: record for tag, record in found.items() if record is not None}

    def ask(self, name: str, plan: LayerPlan) -> LayerRecord | None:
        """Return what the registry itself knows of a layer; None when it has none.

        Args:
            name: Name of the image that keeps layers.
            plan: The layer.

        Raises:
            ImageError: The tag is of something else, or the registry gives no usable answer.
        """
        reference = f"{name}:{plan.tag}"
        manifest = self._registry.manifest(reference)
        if manifest is None:
            return None
        try:
            document = json.loads(manifest.content)
            (layer,), digest = document["layers"], document["config"]["digest"]
            record = _read_record(plan, layer, self._registry.document(name, digest))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _not_ours(reference, plan, error) from error
        self.remember(name, record)
        return record

    def remember(self, name: str, record: LayerRecord) -> None:
        """Keep what is known of a layer, for later assemblies on this machine."""
        self._known[name, record.tag] = record
        # Only time is lost where it cannot be kept.
        with suppress(OSError):
            write_atomically(self._path(name, record.tag), record.to_json())

    def forget(self, name: str, tag: str) -> None:
        """Forget a layer that the registry turned out to have lost."""
        self._known.pop((name, tag), None)
        with suppress(OSError):
            self._path(name, tag).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what was remembered for so long that nothing may need it any more."""
        with suppress(OSError):
            for path in self._directory.glob("*/*.json"):
                if time.time() - path.stat().st_mtime > MAX_AGE_SECONDS:
                    path.unlink(missing_ok=True)

    def known(self, name: str, tag: str) -> LayerRecord | None:
        """Return what is known of a layer on this machine; None when nothing is."""
        known = self._known.get((name, tag))
        if known is not None:
            return known
        try:
            read = LayerRecord.from_json(self._path(name, tag).read_bytes())
        except (OSError, ValueError):
            return None
        if read.tag != tag:
            return None
        self._known[name, tag] = read
        return read

    def _path(self, name: str, tag: str) -> Path:
        return self._directory / sha256_hex(name.encode())[:16] / f"{tag}.json"


def _read_record(plan: LayerPlan, layer: Mapping[str, Any], config: bytes) -> LayerRecord:
    """Read a layer's record, and hold it to what the layer should be.

    Raises:
        ValueError: It is of something else.
    """
    found = json.loads(config)
    (diff_id,) = found["rootfs"]["diff_ids"]
    record = LayerRecord(
        tag=str(found["kinetic"]["tag"]),
        blob=LayerBlob(
            digest=str(layer["digest"]), diff_id=str(diff_id), size_bytes=int(layer["size"])
        ),
        facts=read_facts(found["kinetic"]["facts"]),
        glibc=str(found["kinetic"]["glibc"]),
    )
    if record.tag != plan.tag:
        raise ValueError(f"it says that it is {record.tag}")
    if plan.kind in ("wheel", "merged"):
        wheels = sorted(item.sha256 for item in record.facts)
        if wheels != sorted(package.sha256 for package in plan.packages):
            raise ValueError(f"it holds other wheels: {', '.join(wheels) or 'none'}")
    return record


def _not_ours(reference: str, plan: LayerPlan, error: Exception) -> ImageError:
    why = str(error) if isinstance(error, ValueError) else f"no record of a layer: {error!r}"
    return ImageError(
        f"{reference} should be the layer {plan.title}, and is something else: {why}",
        value=reference,
        hint="somebody pushed it there by another way: delete the tag, and run again",
    )
