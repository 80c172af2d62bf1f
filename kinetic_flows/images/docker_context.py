"""The files that come along with a Dockerfile of somebody's own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from kinetic_flows.core.errors import ImageError
from kinetic_flows.images.base_contract import RUNNER, doubts
from kinetic_flows.images.dockerfile_parser import Dockerfile, read_dockerfile
from kinetic_flows.images.dockerfiles import BuildContext

MAX_CONTEXT_BYTES = 500_000_000
IGNORE_FILE = ".dockerignore"


def read_context(
    path: Path, *, bootstrap: bytes, arguments: Mapping[str, str]
) -> tuple[BuildContext, Dockerfile, tuple[str, ...]]:
    """Return the build context of a Dockerfile, and what may keep it from making a base image.

    Its directory's files come along, but for what `.dockerignore` leaves out (or, as with
    Docker, a file named after the Dockerfile with `.dockerignore` at its end), and only those
    that it copies or mounts.

    Args:
        path: The Dockerfile.
        bootstrap: The runner's bootstrap, which is put beside it.
        arguments: Values that the build gives to its `ARG`s.

    Raises:
        ImageError: It cannot be read, or is too large.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(
            f"the Dockerfile {path} cannot be read: {error}",
            value=str(path),
            hint=f"the path is relative to {Path.cwd()}",
        ) from error
    dockerfile = read_dockerfile(text, arguments)
    root = path.parent.resolve()
    found = _collect(root, _wanted(dockerfile), _ignore_lines(path), path)
    files = {name: file.read_bytes() for name, file in found.items()}
    executable = frozenset(name for name, file in found.items() if os.access(file, os.X_OK))
    context = BuildContext(
        files={**files, path.name: text.encode(), RUNNER: bootstrap},
        executable=executable - {RUNNER},
        dockerfile=path.name,
    )
    return context, dockerfile, doubts(dockerfile, files, path=str(path))


def _wanted(dockerfile: Dockerfile) -> tuple[str, ...]:
    """Return the paths and patterns that a Dockerfile takes from its directory."""
    return tuple(_sources(dockerfile))


def _sources(dockerfile: Dockerfile) -> Iterator[str]:
    for item in (item for stage in dockerfile.stages for item in stage.instructions):
        if item.name in ("COPY", "ADD") and item.flag("from") is None:
            yield from (word for word in item.words[:-1] if "://" not in word)
        for name, value in item.flags:
            options = dict(part.partition("=")[::2] for part in value.split(","))
            if name == "mount" and options.get("type") == "bind" and "from" not in options:
                yield options.get("source") or options.get("src") or "."


def _ignore_lines(path: Path) -> list[str]:
    own, common = path.with_name(path.name + IGNORE_FILE), path.parent / IGNORE_FILE
    chosen = own if own.is_file() else common
    if not chosen.is_file():
        return []
    lines = (line.strip() for line in chosen.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _collect(
    root: Path, wanted: tuple[str, ...], ignored: list[str], path: Path
) -> dict[str, Path]:
    """Return the wanted files of a directory by their path in it."""
    from docker.utils.build import PatternMatcher

    found: dict[str, Path] = {}
    size = 0
    patterns = [source.strip("/").removeprefix("./") for source in wanted]
    for name in sorted(PatternMatcher(ignored).walk(str(root))) if wanted else []:
        file = root / name
        if not file.is_file() or not any(_takes(pattern, name) for pattern in patterns):
            continue
        found[name] = file
        size += file.stat().st_size
        if size > MAX_CONTEXT_BYTES:
            raise ImageError(
                f"what {path} copies is larger than {MAX_CONTEXT_BYTES // 1_000_000} MB",
                value=str(path),
                hint=f"leave out what the image does not need in {path.parent / IGNORE_FILE}",
            )
    return found


def _takes(pattern: str, name: str) -> bool:
    """Whether a source of COPY takes a file: itself, or what is below a directory."""
    from docker.utils.fnmatch import fnmatch

    if pattern in ("", "."):
        return True
    depth = pattern.count("/") + 1
    return bool(fnmatch("/".join(name.split("/")[:depth]), pattern))
