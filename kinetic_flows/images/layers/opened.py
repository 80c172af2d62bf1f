"""A wheel that was read, checked and laid out, and whose content is checked as it is read."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kinetic_flows.core.files import printable
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.layers.digests import Digest
from kinetic_flows.images.layers.facts import read_requirements
from kinetic_flows.images.layers.layout import LaidFile, lay_out
from kinetic_flows.images.layers.model import WheelFacts
from kinetic_flows.images.layers.wheel import Entry, Wheel

DIGITS_OF_A_FILE = 16
LARGE_BYTES = 1 << 20
"""From this size on, a file's digest is computed in a thread of its own."""


class OpenWheel:
    """A wheel, ready to become a layer.

    Attributes:
        files: What it becomes, sorted by path.

    Args:
        wheel: The open wheel.
        file: What it is said to be.
        python: The Python minor version it is laid out for; None for any.

    Raises:
        WheelRefused: It is something else, or would write where it must not.
    """

    def __init__(self, wheel: Wheel, file: WheelFile, python: str | None) -> None:
        self._wheel, self._file = wheel, file
        layout = lay_out(wheel, file, python)
        self.files = layout.files
        self._record = layout.record
        self._requirements = read_requirements(wheel, layout.info, file)
        self._digests: dict[str, str] = {}

    def pieces(self, laid: LaidFile) -> Iterator[tuple[bytes, bytes]]:
        """Yield the content of a file, each piece with how the wheel has it.

        Raises:
            WheelRefused: It is not what the wheel says of it.
        """
        if laid.source is None:
            self._note(laid, hashlib.sha256(laid.content).hexdigest())
            yield laid.content, laid.content
            return
        digest = Digest(in_thread=laid.source.size_bytes >= LARGE_BYTES)
        try:
            for raw, plain in self._wheel.pieces(laid.source):
                digest.update(plain)
                yield raw, plain
            found = digest.finish()
        finally:
            digest.abandon()
        self._check(laid, laid.source, found)
        self._note(laid, found)

    def read(self, laid: LaidFile) -> bytes:
        """Return the content of a file; as `pieces`."""
        return b"".join(plain for _, plain in self.pieces(laid))

    def _note(self, laid: LaidFile, digest: str) -> None:
        if laid.path != self._record:
            self._digests[laid.path] = digest[:DIGITS_OF_A_FILE]

    def _check(self, laid: LaidFile, source: Entry, digest: str) -> None:
        """Compare a file with the wheel's RECORD."""
        algorithm, _, said = laid.digest.partition("=")
        if algorithm in ("", "sha256"):
            found = urlsafe_b64encode(bytes.fromhex(digest)).decode()
        else:
            found = self._other_digest(algorithm, source)
        if algorithm and found.rstrip("=") != said.rstrip("="):
            self._wheel.refuse(f"{printable(source.path)} is not what RECORD says", source.path)

    def _other_digest(self, algorithm: str, source: Entry) -> str:
        if algorithm not in hashlib.algorithms_guaranteed or algorithm.startswith("shake"):
            self._wheel.refuse(f"its RECORD has digests by {printable(algorithm)}", algorithm)
        digest = hashlib.new(algorithm, usedforsecurity=False)
        for _, plain in self._wheel.pieces(source):
            digest.update(plain)
        return urlsafe_b64encode(digest.digest()).decode()

    def facts(self) -> WheelFacts:
        """Return what is known of it, once all of its files were read."""
        return WheelFacts(
            name=self._file.name,
            version=self._file.version,
            sha256=self._file.sha256,
            requires=self._requirements.requires,
            requires_python=self._requirements.requires_python,
            files=self._digests,
            source_bytes=sum(laid.size_bytes for laid in self.files if laid.is_compiled),
        )


@contextmanager
def open_wheel(path: Path, file: WheelFile, python: str | None) -> Iterator[OpenWheel]:
    """Open a wheel; at the end, it has to have been the one whose digest is known.

    Args:
        path: Its file.
        file: What it is said to be.
        python: The Python minor version it is laid out for; None for any.

    Raises:
        WheelRefused: It is something else, or would write where it must not.
    """
    with ExitStack() as stack:
        wheel = stack.enter_context(Wheel(path, file.filename))
        pool = ThreadPoolExecutor(1)
        stack.callback(pool.shutdown, cancel_futures=True)
        digest: Future[str] = pool.submit(wheel.digest)
        yield OpenWheel(wheel, file, python)
        if (found := digest.result()) != file.sha256:
            wheel.refuse(f"its SHA-256 is {found}, not {file.sha256}", found)
