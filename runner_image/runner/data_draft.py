"""A copy of data while it is made: files that are written and checked in several threads.

All of it is in a directory that nobody looks into before it is whole. What is found there of an
earlier try, whose process may have been killed while it wrote, is read and checked before it is
kept.
"""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator

from .contract import EXIT_OBJECT_REFUSED, READ_BYTES, Fault
from .data_checks import Check, Refused
from .data_work import Job, Work

FILE_MODE, EXECUTABLE_MODE, DIRECTORY_MODE = 0o444, 0o555, 0o755
SLICE_BYTES = 32 << 20
"""Files that are larger are brought in slices of this size, several at a time."""
MARKS = ".marks"
"""What follows in the name of the file that tells which slices are there."""

_REMEMBERED_DIRECTORIES = 10_000

Piece = bytes | memoryview
Fetch = Callable[[int, int], Iterator[Piece]]
"""Yields a file's bytes from a position on, up to another one."""


class Draft:
    """The files of a copy that is made.

    Args:
        root: Where they are; made unless it is there.
        slices: Where large files are that are not whole; as `root`, and of the same file system.
        work: Counts what has come.
    """

    def __init__(self, root: str, slices: str, work: Work) -> None:
        self._root = os.path.realpath(root)
        self._slices = slices
        self.work = work
        self.what = work.what
        self.is_resumed = os.path.isdir(root)
        for directory in (root, slices):
            os.makedirs(directory, exist_ok=True)
        self._made: set[str] = set()

    def path(self, relative: str) -> str:
        """Return a file's path, having made its directory.

        Raises:
            Fault: It is no path of something in a directory.
        """
        self.check_path(relative)
        folder = os.path.dirname(relative)
        if folder not in self._made:
            self.make_directory(folder)
        return os.path.join(self._root, relative)

    def sliced(self, relative: str) -> str:
        """Return where a large file is until it is whole."""
        name = hashlib.sha256(relative.encode(errors="surrogateescape")).hexdigest()
        return os.path.join(self._slices, name)

    def make_directory(self, relative: str) -> None:
        """Make a directory; as `path`."""
        self.check_path(relative or "-")
        place = os.path.join(self._root, relative) if relative else self._root
        if os.path.realpath(place) != place:
            # A link is on the way.
            raise self.twice(relative)
        try:
            os.makedirs(place, DIRECTORY_MODE, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise self.twice(relative) from error
        if len(self._made) >= _REMEMBERED_DIRECTORIES:
            self._made = set()
        self._made.add(relative)

    def check_path(self, relative: str) -> None:
        """Raise `Fault` unless something of this name lies inside of the data."""
        parts = relative.split("/")
        if "" in parts or "." in parts or ".." in parts or "\0" in relative:
            message = f"{self.what} has something called {relative!r}, which can be no file's path"
            raise Fault(EXIT_OBJECT_REFUSED, f"{message}; leave it out with exclude=")

    def has(self, relative: str, size_bytes: int, check: Callable[[], Check]) -> bool:
        """Whether an earlier try has left this file, as it must be; another one is removed."""
        if not self.is_resumed:
            return False
        path = self.path(relative)
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size == size_bytes:
                    self._read_checked(file.fileno(), check())
                    self.work.reuse(size_bytes)
                    self.work.add_file()
                    return True
        except FileNotFoundError:
            return False
        except Refused:
            pass
        os.unlink(path)
        return False

    def write(
        self, relative: str, pieces: Iterable[Piece], check: Check, *, executable: bool = False
    ) -> None:
        """Write a file as its content comes, and check it.

        What is refused stays, as what was interrupted does, and is found by the next try: a thread
        that ends late must not remove what is another run's by then.

        Raises:
            Fault: It is not what it must be, or its path is taken.
            OSError: It cannot be written.
        """
        path = self.path(relative)
        mode = EXECUTABLE_MODE if executable else FILE_MODE
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except (FileExistsError, IsADirectoryError) as error:
            raise self.twice(relative) from error
        with open(handle, "wb", buffering=0) as file:
            for piece in pieces:
                check.update(piece)
                self.work.add(len(piece))
                write_whole(file.fileno(), piece)
        check.finish()
        self.work.add_file()

    def link(self, relative: str, target: str) -> None:
        """Make a symbolic link that leads to somewhere inside of the data; as `write`."""
        folder = os.path.dirname(relative)
        aim = os.path.normpath(os.path.join(folder, target))
        if os.path.isabs(target) or aim.split("/")[0] == "..":
            message = f"{self.what}: the link {relative!r} leads out of it, to {target!r}"
            raise Fault(EXIT_OBJECT_REFUSED, message)
        path = self.path(relative)
        if self.is_resumed and os.path.islink(path):
            os.unlink(path)
        try:
            os.symlink(target, path)
        except FileExistsError as error:
            raise self.twice(relative) from error

    def _read_checked(self, handle: int, check: Check) -> None:
        while piece := os.read(handle, READ_BYTES):
            self.work.check()
            check.update(piece)
        check.finish()

    def twice(self, relative: str) -> Fault:
        """Return what is raised for a path that is taken."""
        message = f"{self.what} has {relative!r} twice, or as a file and as a directory"
        return Fault(EXIT_OBJECT_REFUSED, f"{message}; leave one out with exclude=")


class SlicedFile:
    """A large file that is brought in slices.

    Args:
        draft: The copy that it is a file of.
        relative: Its path.
        size_bytes: Its size.
        fetch: Yields bytes of it.
        check: Begins a check of the whole file; None where each slice has its own.
        digests: The SHA-256 of each slice; None where the whole file is checked.
        slice_bytes: How large slices are.
        executable: Whether its owner may execute it.
    """

    def __init__(
        self,
        draft: Draft,
        relative: str,
        size_bytes: int,
        fetch: Fetch,
        *,
        check: Callable[[], Check] | None = None,
        digests: list[str] | None = None,
        slice_bytes: int = SLICE_BYTES,
        executable: bool = False,
    ) -> None:
        self._draft = draft
        self._relative = relative
        self._path = draft.path(relative)
        self._sliced = draft.sliced(relative)
        self._size_bytes = size_bytes
        self._fetch = fetch
        self._check = check
        self._digests = digests
        self._slice_bytes = slice_bytes
        self._mode = EXECUTABLE_MODE if executable else FILE_MODE
        self._count = -(-size_bytes // slice_bytes)
        self._left = self._count
        self._guard = threading.Lock()
        self._marks = _read_marks(self._sliced + MARKS) if check else {}

    def jobs(self) -> Iterator[Job]:
        """Yield what brings it, a job for each slice; the last to end makes the file."""
        self._take_left()
        handle = os.open(self._sliced, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(handle, self._size_bytes)
        os.close(handle)
        for number in range(self._count):
            yield lambda number=number: self._bring(number)  # type: ignore[misc]

    def _take_left(self) -> None:
        """Have a file that an earlier try has made looked at again, slice by slice."""
        if not os.path.lexists(self._path):
            return
        if not self._draft.is_resumed or not os.path.isfile(self._path):
            raise self._draft.twice(self._relative)
        os.chmod(self._path, 0o600)
        os.rename(self._path, self._sliced)

    def _bring(self, number: int) -> None:
        begin = number * self._slice_bytes
        end = min(begin + self._slice_bytes, self._size_bytes)
        with open(self._sliced, "r+b", buffering=0) as file:
            if not self._is_there(file.fileno(), number, begin, end):
                self._write(file.fileno(), number, begin, end)
        with self._guard:
            self._left -= 1
            is_last = not self._left
        if is_last:
            self._finish()

    def _write(self, handle: int, number: int, begin: int, end: int) -> None:
        check = self._slice_check(number, end - begin)
        mark, position = 0, begin
        for piece in self._fetch(begin, end):
            check.update(piece)
            self._draft.work.add(len(piece))
            mark = zlib.crc32(piece, mark)
            write_whole(handle, piece, position)
            position += len(piece)
        check.finish()
        if self._check:
            with self._guard:
                _add_mark(self._sliced + MARKS, number, mark)

    def _is_there(self, handle: int, number: int, begin: int, end: int) -> bool:
        """Whether an earlier try has left this slice."""
        if self._digests:
            digest = f"sha256:{self._digests[number]}"
        elif number in self._marks:
            digest = f"crc32:{self._marks[number]}"
        else:
            return False
        check = Check(self._relative, end - begin, digest)
        try:
            for piece in _pieces(handle, begin, end):
                self._draft.work.check()
                check.update(piece)
            check.finish()
        except Refused:
            return False
        self._draft.work.reuse(end - begin)
        return True

    def _slice_check(self, number: int, size_bytes: int) -> Check:
        digest = f"sha256:{self._digests[number]}" if self._digests else ""
        return Check(f"{self._relative} of {self._draft.what}", size_bytes, digest)

    def _finish(self) -> None:
        sliced = self._sliced
        if self._check:
            check = self._check()
            try:
                with open(sliced, "rb", buffering=0) as file:
                    for piece in _pieces(file.fileno(), 0, self._size_bytes):
                        self._draft.work.check()
                        check.update(piece)
                check.finish()
            except Refused:
                # Nothing of it is kept for another try.
                os.unlink(sliced)
                os.unlink(sliced + MARKS)
                raise
        os.chmod(sliced, self._mode)
        os.rename(sliced, self._path)
        self._draft.work.add_file()


def _pieces(handle: int, begin: int, end: int) -> Iterator[bytes]:
    while begin < end:
        piece = os.pread(handle, min(READ_BYTES, end - begin), begin)
        if not piece:
            return
        yield piece
        begin += len(piece)


def write_whole(handle: int, data: Piece, position: int | None = None) -> None:
    """Write all of it: one call need not."""
    view = memoryview(data)
    while view:
        if position is None:
            written = os.write(handle, view)
        else:
            written = os.pwrite(handle, view, position)
            position += written
        view = view[written:]


def _read_marks(path: str) -> dict[int, str]:
    """Return the CRC32 of slices that were written; of a line that is not whole, nothing."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            lines = [line.split() for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return {}
    return {int(line[0]): line[1] for line in lines if len(line) == 2 and line[0].isdigit()}


def _add_mark(path: str, number: int, crc32: int) -> None:
    with open(path, "a", encoding="ascii") as file:
        file.write(f"{number} {crc32:08x}\n")
