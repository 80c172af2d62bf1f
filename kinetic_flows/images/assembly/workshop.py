"""Making the layers that a registry lacks, and sending each as soon as it is made."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.interruption import in_threads, pause
from kinetic_flows.core.wheel_file import WheelFile, WheelSource
from kinetic_flows.images.assembly.compose import ComposedImage, record_documents
from kinetic_flows.images.assembly.kept import KeptLayers
from kinetic_flows.images.assembly.layer_plan import LayerPlan
from kinetic_flows.images.assembly.leave_out import leave_out
from kinetic_flows.images.assembly.preview import Survey
from kinetic_flows.images.assembly.records import LayerRecord, LayerRecords
from kinetic_flows.images.assembly.site import make_site_layer
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.assembly.start import StartLayer
from kinetic_flows.images.layers.bytecode import Compiler
from kinetic_flows.images.layers.make import (
    make_bytecode_layer,
    make_files_layer,
    make_merged_layer,
    make_wheel_layer,
)
from kinetic_flows.images.layers.model import MadeLayer

UPLOADS_AT_A_TIME = 8
TOLD_EVERY_SECONDS = 10.0
TOLD_BYTES = 50_000_000
"""A wheel of this size is told of before it is fetched: nothing is heard of it for a while."""
COMPILED = frozenset({"wheel", "merged", "bytecode"})
"""Kinds of layers that have bytecode if they are for one Python."""
_LOOK_SECONDS = 0.1


class Talk:
    """What threads that work together say, and whether they are to go on.

    Args:
        on_output: Takes each line.
    """

    def __init__(self, on_output: Callable[[str], None]) -> None:
        self._on_output = on_output
        self._speaking = threading.Lock()
        self._stopped = threading.Event()
        self._done, self._total = 0, 0

    def expect(self, total: int) -> None:
        """Note how many layers are going to be sent."""
        self._done, self._total = 0, total

    def counted(self) -> str:
        """Count a layer that was sent, and say which one of how many it is."""
        with self._speaking:
            self._done += 1
            return f", {self._done} of {self._total}" if self._done <= self._total else ""

    def say(self, line: str) -> None:
        """Say a line; nobody listens any more once the work has stopped."""
        with self._speaking:
            if not self._stopped.is_set():
                self._on_output(line)

    def stop(self) -> None:
        """Have every thread stop that looks."""
        self._stopped.set()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Have all threads stop when one of them fails in this block."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def check(self) -> None:
        """Go on.

        Raises:
            KeyboardInterrupt: The work is to stop.
        """
        pause(0)
        if self._stopped.is_set():
            raise KeyboardInterrupt


class Sending:
    """Tells how far the sending of one blob is.

    Args:
        title: What is sent.
        size_bytes: Its size.
        talk: Where it is told.
    """

    def __init__(self, title: str, size_bytes: int, talk: Talk) -> None:
        self._title, self._size_bytes, self._talk = title, size_bytes, talk
        self._sent = 0
        self._told = time.monotonic()

    def __call__(self, sent: int) -> None:
        """Count bytes that were sent, and stop when the work is interrupted."""
        self._talk.check()
        self._sent += sent
        if time.monotonic() - self._told > TOLD_EVERY_SECONDS and self._sent < self._size_bytes:
            self._told = time.monotonic()
            size = size_in_units(self._size_bytes)
            self._talk.say(f"{self._title}: {size_in_units(self._sent)} of {size} sent")

    def end(self) -> None:
        """Tell that all of it has been sent."""
        count = self._talk.counted()
        self._talk.say(f"{self._title}: {size_in_units(self._size_bytes)} sent{count}")


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What layers are made with.

    Attributes:
        assembly: The image that they are for.
        registry: The registry that gets them.
        records: What is known of layers.
        wheels: Where wheels come from.
        compiler: Makes bytecode.
        kept: Where made layers lie until they are sent.
        scratch: A directory for what is not whole yet, on the disk of those.
        talk: Where progress is told.
    """

    assembly: Assembly
    registry: RegistryWriter
    records: LayerRecords
    wheels: WheelSource
    compiler: Compiler
    kept: KeptLayers
    scratch: Path
    talk: Talk
    _cores: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(os.cpu_count() or 1)
    )

    def make_all(self, survey: Survey, plans: Sequence[LayerPlan]) -> dict[str, LayerRecord]:
        """Make layers and send them, several at a time; return their records by their tags.

        Args:
            survey: What the image is made of.
            plans: The layers that the registry lacks.

        Raises:
            ImageError: There is no interpreter that makes bytecode, or too little is known of a
                base.
            KineticError: A wheel cannot be had or is refused, or the registry refuses a layer.
        """
        if any(plan.python and plan.kind in COMPILED for plan in plans):
            self.compiler.check()
        for plan in plans:
            self._lacks_facts(survey, plan)
        # What takes longest begins first.
        ordered = sorted(plans, key=self._size_of, reverse=True)
        threads = (os.cpu_count() or 1) + UPLOADS_AT_A_TIME
        self.talk.expect(len(ordered))

        def provide(plan: LayerPlan) -> LayerRecord:
            with self.talk.together():
                return self.provide(survey, plan)

        made = in_threads(provide, ordered, threads=threads)
        self.talk.expect(0)
        return {record.tag: record for record in made}

    def provide(self, survey: Survey, plan: LayerPlan, *, lost: str = "") -> LayerRecord:
        """Have the registry have a layer, and return what there is to know of it.

        Args:
            survey: What the image is made of.
            plan: The layer.
            lost: Digest of a blob that the registry does not have, whatever it says of the layer.
        """
        name, tag = self.assembly.layers, plan.tag
        with self.kept.room_for(tag, self._size_of(plan)), self.kept.held(tag):
            self.talk.check()
            # Another process here may have made it while this one waited.
            known = self.records.known(name, tag)
            if known is not None and known.blob.digest != lost:
                return known
            own = self.kept.find(tag) or self._make(survey, plan)
            theirs = self.records.ask(name, plan)
            # Whoever was first decides how it is compressed.
            if theirs is None or theirs.blob.digest == lost:
                theirs = self._publish(plan, own, lost)
            self.kept.is_sent(tag)
            return theirs

    def _publish(self, plan: LayerPlan, own: LayerRecord, lost: str) -> LayerRecord:
        """Send a layer, and return what the registry has under its tag afterwards."""
        name = self.assembly.layers
        sending = Sending(f"layer {plan.title}", own.blob.size_bytes, self.talk)
        documents = self._send(plan, own, sending)
        try:
            named = self.registry.put_manifest(
                f"{name}:{plan.tag}", documents.manifest, documents.media_type
            )
        except ImageError:
            # Where tags never move, the one who comes second is refused.
            theirs = self.records.ask(name, plan)
            if theirs is None or theirs.blob.digest == lost:
                raise
            return theirs
        sending.end()
        if named != documents.digest:
            return self.records.ask(name, plan) or own
        self.records.remember(name, own)
        return own

    def kept_file(self, tag: str, digest: str) -> Path | None:
        """Return the file of a layer that is still on this machine; None when it is not."""
        record = self.kept.find(tag)
        return self.kept.path(tag) if record and record.blob.digest == digest else None

    def _send(self, plan: LayerPlan, record: LayerRecord, sending: Sending) -> ComposedImage:
        """Send a layer's blob and what is known of it; return the documents that name them."""
        name, blob = self.assembly.layers, record.blob
        opened = partial(open_at, self.kept.path(plan.tag))
        self.registry.upload(name, blob.digest, blob.size_bytes, opened, sending)
        known = {"glibc": record.glibc, "facts": [asdict(facts) for facts in record.facts]}
        documents = record_documents(plan, blob, known, self.assembly.platform)
        self.registry.upload_document(name, documents.config)
        return documents

    def _make(self, survey: Survey, plan: LayerPlan) -> LayerRecord:
        """Make a layer, and keep it."""
        target = self.scratch / plan.tag
        source = survey.plan.made_from.get(plan.tag)
        if plan.kind == "site":
            record = self._make_site(survey, plan, source, target)
        elif source is not None and not self._lacks_facts(survey, plan):
            record = self._make_from_layer(survey, plan, source, target)
        else:
            made = self._make_from_wheels(plan, target)
            # What wheels say of themselves stands with the layers of their contents.
            facts = () if plan.kind == "bytecode" else made.facts
            record = LayerRecord(tag=plan.tag, blob=made.blob, facts=facts)
        self.kept.keep(record, target)
        return record

    def _make_from_wheels(self, plan: LayerPlan, target: Path) -> MadeLayer:
        files = {str(wheel.sha256): wheel for wheel in self.assembly.wheels}
        if plan.kind == "files":
            return make_files_layer(self.assembly.files, target)
        wheels: list[tuple[WheelFile, Path]] = []
        for package in plan.packages:
            file = files[package.sha256]
            if file.url and file.size_bytes >= TOLD_BYTES and plan.kind != "bytecode":
                size = size_in_units(file.size_bytes)
                self.talk.say(f"layer {plan.title}: fetching {file.filename}, {size}")
            wheels.append((file, self.wheels.fetch(file)))
        with self._core():
            if plan.kind == "wheel":
                file, path = wheels[0]
                return make_wheel_layer(
                    path, target, file=file, python=plan.python, compiler=self.compiler
                )
            if plan.kind == "merged":
                return make_merged_layer(wheels, target, python=plan.python, compiler=self.compiler)
            return make_bytecode_layer(
                wheels, target, python=self.assembly.python, compiler=self.compiler
            )

    def _make_site(
        self, survey: Survey, plan: LayerPlan, source: StartLayer | None, target: Path
    ) -> LayerRecord:
        """Make a site layer, from all layers of an image of Python or from a base's own."""
        layers = [source] if source else list(survey.start.layers)
        staying = {package.name for package in plan.packages}
        with TemporaryDirectory(dir=self.scratch) as scratch:
            blobs = [self._download(survey, layer, Path(scratch)) for layer in layers]
            with self._core():
                made = make_site_layer(
                    blobs,
                    target,
                    python=self.assembly.python,
                    keeps=staying if source or plan.is_part else None,
                )
        layer = made.layer
        return LayerRecord(tag=plan.tag, blob=layer.blob, facts=layer.facts, glibc=made.glibc)

    def _make_from_layer(
        self, survey: Survey, plan: LayerPlan, source: StartLayer, target: Path
    ) -> LayerRecord:
        """Make a layer of what another one holds besides packages that give way."""
        assert source.plan is not None
        rest = {package.sha256 for package in plan.packages}
        known = [survey.facts[package.sha256] for package in source.plan.packages]
        with TemporaryDirectory(dir=self.scratch) as scratch:
            blob = self._download(survey, source, Path(scratch))
            with self._core():
                layer = leave_out(
                    blob,
                    target,
                    gone=[item for item in known if item.sha256 not in rest],
                    kept=[item for item in known if item.sha256 in rest],
                    python=self.assembly.python,
                )
        staying = tuple(item for item in known if item.sha256 in rest)
        return LayerRecord(tag=plan.tag, blob=layer, facts=staying if plan.kind == "merged" else ())

    def _lacks_facts(self, survey: Survey, plan: LayerPlan) -> bool:
        """Whether a layer has to be made of wheels, as nothing is known of those in a base's.

        Raises:
            ImageError: Nor can all of its wheels be had.
        """
        source = survey.plan.made_from.get(plan.tag)
        held = source.plan.packages if source and source.plan and plan.kind != "site" else ()
        unknown = [str(package) for package in held if package.sha256 not in survey.facts]
        if not unknown:
            return False
        wheels = {str(wheel.sha256) for wheel in self.assembly.wheels}
        if all(package.sha256 in wheels for package in plan.packages):
            return True
        raise ImageError(
            f"the base {survey.start} holds {', '.join(unknown)} together with what gives way to "
            f"another version, and {self.assembly.layers} knows nothing of them",
            value=str(survey.start),
            hint="build the base again in this repository: kinetic build-image",
        )

    def _download(self, survey: Survey, layer: StartLayer, scratch: Path) -> Path:
        path = scratch / layer.blob.digest.partition(":")[2]
        with path.open("wb") as file:
            for piece in self.registry.download(survey.start.name, layer.blob.digest):
                self.talk.check()
                file.write(piece)
        return path

    def _size_of(self, plan: LayerPlan) -> int:
        """Return about how much a layer is, by the size of its wheels."""
        if plan.kind == "bytecode":
            return 0
        wanted = {package.sha256 for package in plan.packages}
        return sum(wheel.size_bytes for wheel in self.assembly.wheels if wheel.sha256 in wanted)

    @contextmanager
    def _core(self) -> Iterator[None]:
        """Wait for a processor that is free."""
        while not self._cores.acquire(timeout=_LOOK_SECONDS):
            self.talk.check()
        try:
            self.talk.check()
            yield
        finally:
            self._cores.release()


@contextmanager
def open_at(path: Path, start: int) -> Iterator[BinaryIO]:
    """Open a file at an offset."""
    with path.open("rb") as file:
        file.seek(start)
        yield file
