"""Files on their way from one machine to another, through a pipe: read here, written there.

The stream begins with a line of JSON, which tells how much comes, and goes on as a tar archive
(https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html), whose end says itself that it
is complete. Each file gets another name until all of it is there.

Beside being imported it is a program, which is what the other side of `kinetic runs cp` is:

    python carrying.py give PATH > STREAM
    python carrying.py take PATH < STREAM

It takes the stream to PATH, or into it where that is a directory.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

EXIT_FAILED = 1
EXIT_NOTHING_THERE = 2

LONGEST_HEAD_BYTES = 64 << 20
"""Of the line that a stream begins with: what is none of ours may have no end of a line."""

_NOT_TAKEN = "neither a file nor a directory"


class Failed(Exception):
    """Files cannot be carried; the text says why."""


class NothingThere(Failed):
    """There is nothing at a path."""


def give(path: str, target: BinaryIO) -> None:
    """Write what is at a path to a stream.

    Args:
        path: A file or a directory; links to either are followed.
        target: The stream.

    Raises:
        Failed: It cannot be read.
    """
    top = os.path.realpath(os.path.expanduser(path))
    if not os.path.exists(top):
        raise NothingThere(f"there is nothing at {path} (in {os.getcwd()})")
    name = os.path.basename(os.path.abspath(os.path.expanduser(path))) or "root"
    try:
        found = list(_below(top))
    except OSError as error:
        raise Failed(f"{error.filename} cannot be read: {error.strerror}") from error
    skipped = [_relative(each, top) for each, kind, _ in found if kind == _NOT_TAKEN]
    sizes = [size for _, kind, size in found if kind == "file"]
    head = {
        "name": name,
        "is_directory": os.path.isdir(top),
        "files": len(sizes),
        "bytes": sum(sizes),
        "skipped": skipped,
    }
    target.write(json.dumps(head).encode() + b"\n")
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for each, kind, _ in found:
            if kind != _NOT_TAKEN:
                _add(archive, each, _relative(each, top))


def _below(top: str) -> Iterator[tuple[str, str, int]]:
    """Yield everything at a path and below, each with what it is and its size."""
    yield top, *_kind(top)
    for folder, directories, names in os.walk(top, onerror=_raise_unless_gone):
        for name in sorted([*directories, *names]):
            path = os.path.join(folder, name)
            # What goes on meanwhile may remove it: then it is not there to be copied.
            with suppress(FileNotFoundError):
                yield path, *_kind(path)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def _kind(path: str) -> tuple[str, int]:
    found = os.lstat(path)
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    return kinds.get(stat.S_IFMT(found.st_mode), _NOT_TAKEN), found.st_size


def _relative(path: str, top: str) -> str:
    return os.path.relpath(path, top)


def _add(archive: tarfile.TarFile, path: str, name: str) -> None:
    try:
        member = archive.gettarinfo(path, name)
        # Hard links are files like others: their other names may not come along.
        if member.islnk():
            member.type, member.linkname = tarfile.REGTYPE, ""
            member.size = os.stat(path).st_size
        if not member.isreg():
            archive.addfile(member)
            return
        with open(path, "rb") as file:
            archive.addfile(member, file)
    except BrokenPipeError:
        raise
    except OSError as error:
        if isinstance(error, FileNotFoundError) and name != ".":
            return
        # tarfile's own word for a file that has become shorter is not the system's.
        why = error.strerror or "it has changed meanwhile"
        raise Failed(f"{path} cannot be read: {why}") from error


def take(path: str, source: BinaryIO) -> dict[str, Any]:
    """Write what comes from a stream to a path, or into the directory that is there.

    Args:
        path: Where it goes; directories above it are made.
        source: The stream.

    Returns:
        What was written: `path`, `files`, `bytes` and what was `skipped`.

    Raises:
        Failed: It cannot be written, or the stream broke off: then some files may be whole and
            there, and none is in parts.
    """
    head = _head(source)
    target = os.path.abspath(os.path.expanduser(path))
    if os.path.isdir(target) or path.endswith("/"):
        target = os.path.join(target, _one_name(head["name"]))
    if head["is_directory"] and os.path.exists(target) and not os.path.isdir(target):
        raise Failed(f"{target} is a file, and a directory was to be copied there")
    if not head["is_directory"] and os.path.isdir(target):
        raise Failed(f"{target} is a directory, and a file was to be copied there")
    skipped, sizes = list(head["skipped"]), []
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for each in archive:
                if not _take(archive, each, target):
                    skipped.append(each.name)
                elif each.isreg():
                    sizes.append(each.size)
    except (tarfile.TarError, EOFError) as error:
        raise Failed(f"what was to be written to {target} broke off: {error}") from error
    except OSError as error:
        where = error.filename or target
        raise Failed(f"{where} cannot be written: {error.strerror or error}") from error
    return {"files": len(sizes), "bytes": sum(sizes), "path": target, "skipped": skipped}


def _head(source: BinaryIO) -> dict[str, Any]:
    line = source.readline(LONGEST_HEAD_BYTES)
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:
        raise Failed("nothing came that could be written") from None
    return found


def _one_name(name: str) -> str:
    """Return the name of what comes: the other side is not trusted to lead elsewhere by it."""
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise Failed(f"what came is called {name!r}, which is no name of a file")
    return name


def _take(archive: tarfile.TarFile, member: tarfile.TarInfo, target: str) -> bool:
    """Write one of the files; return whether it was one that can be."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    if ".." in parts or member.name.startswith("/"):
        return False
    place = os.path.join(target, *parts)
    if os.path.realpath(os.path.dirname(place)) != os.path.dirname(place) and parts:
        # A link that was there leads out of the directory, or a file of ours did.
        _require_within(os.path.realpath(os.path.dirname(place)), os.path.realpath(target))
    if member.isdir():
        os.makedirs(place, exist_ok=True)
        return True
    if member.issym():
        return _link(member.linkname, place, target)
    if not member.isreg():
        return False
    file = archive.extractfile(member)
    assert file is not None
    _write(file, place, member)
    return True


def _require_within(place: str, top: str) -> None:
    if place != top and not place.startswith(top.rstrip("/") + "/"):
        raise Failed(f"{place} is not in {top}: a link leads there")


def _link(leads_to: str, place: str, top: str) -> bool:
    """Make a link, if it stays within what is copied, also by way of links that are there."""
    folder, real_top = os.path.realpath(os.path.dirname(place)), os.path.realpath(top)
    there = os.path.realpath(os.path.join(folder, leads_to))
    if leads_to.startswith("/") or not (there + "/").startswith(real_top.rstrip("/") + "/"):
        return False
    new = _unfinished(place)
    os.symlink(leads_to, new)
    try:
        os.replace(new, place)
    except OSError:
        os.unlink(new)
        raise
    return True


def _write(source: Any, place: str, member: tarfile.TarInfo) -> None:
    new = _unfinished(place)
    try:
        with open(new, "xb") as file:
            _copy(source, file, member.size)
            os.fchmod(file.fileno(), member.mode & 0o777)
        os.utime(new, (member.mtime, member.mtime))
        os.replace(new, place)
    except BaseException:
        with suppress(OSError):
            os.unlink(new)
        raise


def _copy(source: Any, target: BinaryIO, size: int) -> None:
    left = size
    while left:
        chunk = source.read(min(left, 1 << 20))
        if not chunk:
            raise EOFError("the stream has ended before the file")
        target.write(chunk)
        left -= len(chunk)


def _unfinished(place: str) -> str:
    folder, name = os.path.split(place)
    return os.path.join(folder, f".{name[:100]}.{os.urandom(4).hex()}.part")


def main(arguments: Sequence[str]) -> int:
    """Give or take; what was taken is printed as JSON, and what went wrong as a line."""
    what, path = arguments
    try:
        if what == "give":
            give(path, sys.stdout.buffer)
            sys.stdout.flush()
        else:
            print(json.dumps(take(path, sys.stdin.buffer)))
    except BrokenPipeError:
        # Who reads has said why.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_FAILED
    except Failed as error:
        print(error, file=sys.stderr)
        return EXIT_NOTHING_THERE if isinstance(error, NothingThere) else EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
