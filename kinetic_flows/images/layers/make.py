"""Making layers: of a wheel, of the bytecode of several, of several wheels, of plain files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.layers.archive import LayerWriter
from kinetic_flows.images.layers.bytecode import Bytecode, Compiler
from kinetic_flows.images.layers.layout import LaidFile, lay_out
from kinetic_flows.images.layers.model import LayerBlob, MadeLayer, WheelFacts
from kinetic_flows.images.layers.opened import OpenWheel, open_wheel
from kinetic_flows.images.layers.refused import WheelRefused
from kinetic_flows.images.layers.wheel import Wheel

__all__ = [
    "WheelRefused",
    "make_bytecode_layer",
    "make_files_layer",
    "make_merged_layer",
    "make_wheel_layer",
]

Wheels = Sequence[tuple[WheelFile, Path]]


def make_wheel_layer(
    wheel: Path, target: Path, *, file: WheelFile, python: str | None, compiler: Compiler
) -> MadeLayer:
    """Make the layer of one wheel.

    Args:
        wheel: The wheel's file, whatever its name.
        target: File that gets the layer's compressed bytes; it is there once it is complete.
        file: What the wheel is said to be.
        python: Python minor version whose bytecode is added; None for a layer without bytecode,
            of a wheel that any Python takes.
        compiler: What compiles for that version.

    Raises:
        WheelRefused: The wheel is damaged, is something else, or would write where it must not.
        ImageError: There is no interpreter to compile with, or no room for the layer.
    """
    with _writer(target) as writer:
        layer = _Layer(writer=writer, bytecode=Bytecode(compiler) if python else None)
        with open_wheel(wheel, file, python) as opened:
            facts = layer.add(opened)
        return MadeLayer(blob=layer.close(), path=target, facts=(facts,))


def make_bytecode_layer(
    wheels: Wheels, target: Path, *, python: str, compiler: Compiler
) -> MadeLayer:
    """Make one layer with the bytecode of several wheels that any Python takes.

    Args:
        wheels: The wheels with their files; of two with one path, the one whose name comes last
            has it.
        target: As for `make_wheel_layer`.
        python: Python minor version.
        compiler: What compiles for that version.

    Raises:
        WheelRefused: As `make_wheel_layer`.
        ImageError: As `make_wheel_layer`.
    """
    layout = _Layout.of(wheels, python)
    with _writer(target) as writer:
        layer = _Layer(writer=writer, bytecode=Bytecode(compiler))
        for file, path in layout.wheels:
            with open_wheel(path, file, python) as opened:
                layer.compile(opened, layout.owned_by(file))
        return MadeLayer(blob=layer.close(), path=target)


def make_merged_layer(
    wheels: Wheels, target: Path, *, python: str | None, compiler: Compiler
) -> MadeLayer:
    """Make one layer of several wheels; as `make_bytecode_layer`.

    Args:
        wheels: As for `make_bytecode_layer`.
        target: As for `make_wheel_layer`.
        python: Python minor version whose bytecode is added; None for none.
        compiler: What compiles for that version.
    """
    layout = _Layout.of(wheels, python)
    facts = []
    with _writer(target) as writer:
        layer = _Layer(writer=writer, bytecode=Bytecode(compiler) if python else None)
        for file, path in layout.wheels:
            with open_wheel(path, file, python) as opened:
                facts.append(layer.add(opened, layout.owned_by(file)))
        return MadeLayer(blob=layer.close(), path=target, facts=tuple(facts))


def make_files_layer(files: Mapping[str, bytes], target: Path) -> MadeLayer:
    """Make a layer of plain files.

    Args:
        files: Contents by absolute path.
        target: As for `make_wheel_layer`.
    """
    with _writer(target) as writer:
        for path, data in sorted(files.items()):
            writer.add_file(path.lstrip("/"), data)
        return MadeLayer(blob=writer.close(), path=target)


@contextmanager
def _writer(target: Path) -> Iterator[LayerWriter]:
    """Yield what writes a layer, of which nothing is left unless it is closed."""
    try:
        with LayerWriter(target) as writer:
            yield writer
    except OSError as error:
        raise ImageError(
            f"the layer {target.name} cannot be made: {error}",
            value=str(target),
            hint=f"it is written to {target.parent}, which needs room for it",
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Several wheels in one layer.

    Attributes:
        wheels: The wheels with their files, in the order in which they would be layers.
        owners: Digest of the wheel whose file it is, by path: the last one that has it.
    """

    wheels: Wheels
    owners: Mapping[str, str]

    @classmethod
    def of(cls, wheels: Wheels, python: str | None) -> _Layout:
        """Find out which wheel has which path."""
        ordered = sorted(wheels, key=lambda pair: (pair[0].name, pair[0].sha256))
        owners: dict[str, str] = {}
        for file, path in ordered:
            # Whether it is the one whose digest is known is seen when its content is read.
            with Wheel(path, file.filename) as wheel:
                files = lay_out(wheel, file, python).files
            owners.update(dict.fromkeys((laid.path for laid in files), file.sha256))
        return cls(wheels=ordered, owners=owners)

    def owned_by(self, file: WheelFile) -> Callable[[str], bool]:
        """Return what tells whether a path is a wheel's."""
        return lambda path: self.owners[path] == file.sha256


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A layer that wheels are written to.

    Attributes:
        writer: What writes it.
        bytecode: What compiles the sources that are written; None for no bytecode.
    """

    writer: LayerWriter
    bytecode: Bytecode | None

    def add(self, opened: OpenWheel, has: Callable[[str], bool] = lambda _: True) -> WheelFacts:
        """Write the files of a wheel that are its own; return what is known of it."""
        for laid in opened.files:
            if not has(laid.path):
                opened.read(laid)
                continue
            pieces = opened.pieces(laid)
            if not laid.is_compiled or self.bytecode is None:
                self._write(laid, pieces)
                continue
            source: list[bytes] = []
            self._write(laid, _kept(pieces, source))
            self.bytecode.add(laid.path, b"".join(source))
        return opened.facts()

    def _write(self, laid: LaidFile, pieces: Iterable[tuple[bytes, bytes]]) -> None:
        if laid.source and laid.source.deflated:
            self.writer.add_deflated(
                laid.path, laid.source.size_bytes, pieces, executable=laid.executable
            )
        else:
            self.writer.add_stream(
                laid.path,
                laid.size_bytes,
                (plain for _, plain in pieces),
                executable=laid.executable,
            )

    def compile(self, opened: OpenWheel, has: Callable[[str], bool]) -> None:
        """Have the sources of a wheel compiled that are its own."""
        for laid in opened.files:
            if laid.is_compiled and self.bytecode and has(laid.path):
                self.bytecode.add(laid.path, opened.read(laid))

    def close(self) -> LayerBlob:
        """Write the bytecode, and the end."""
        for path, data in self.bytecode.finish() if self.bytecode else ():
            self.writer.add_file(path, data)
        return self.writer.close()


def _kept(
    pieces: Iterable[tuple[bytes, bytes]], kept: list[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Pass the pieces of a file on, and keep its content."""
    for raw, plain in pieces:
        kept.append(plain)
        yield raw, plain
