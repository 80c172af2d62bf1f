"""Custom Dockerfiles: the files that come along, and what is said before the build.

Whether a Dockerfile makes a base image is decided by the build and by the smoke test within it.
What is read here is which files it takes, and whether it mentions what the runner needs.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.core.errors import ImageError
from kinetic_flows.images.dockerfiles import BuildContext

MAX_CONTEXT_BYTES = 500_000_000
IGNORE_FILE = ".dockerignore"
RUNNER = "remote_runner.py"

_PACKAGES = ("uv", "cloudpickle", "google-cloud-storage")
_INSTALL_LINE = "RUN python3 -m pip install --no-cache-dir {packages}"
_COPY_LINE = f"COPY {RUNNER} /app/"
_OUR_BASES = re.compile(r"(?:^|[/-])base-(?:cpu|gpu|tpu)(?:[:@]|$)")
# Lists of packages are smaller than this.
_MAX_READ_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class _Instruction:
    """One instruction: its keyword in capitals, its flags, the words after them, its first line."""

    name: str
    flags: tuple[str, ...]
    words: tuple[str, ...]
    line: int


@dataclass(frozen=True, kw_only=True)
class DockerfileContext:
    """A Dockerfile with what comes along.

    Attributes:
        files: The files of the build, the Dockerfile among them.
        arguments: Names of the `ARG`s it declares.
        warnings: What may keep it from making a base image.
    """

    files: BuildContext
    arguments: frozenset[str]
    warnings: tuple[str, ...]


def read_context(path: Path, *, bootstrap: bytes) -> DockerfileContext:
    """Return the build context of a Dockerfile, and what may keep it from making a base image.

    Its directory's files come along, but for what `.dockerignore` leaves out (or, as with
    Docker, a file named after the Dockerfile with `.dockerignore` at its end), and only those
    that it copies or mounts.

    Args:
        path: The Dockerfile.
        bootstrap: The runner's bootstrap, which is put beside it.

    Raises:
        ImageError: It cannot be read, has no `FROM`, or is too large.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(
            f"the Dockerfile {path} cannot be read: {error}",
            value=str(path),
            hint=f"the path is relative to {Path.cwd()}",
        ) from error
    instructions = _instructions(text)
    sources = tuple(_sources(instructions))
    found = _collect(path.parent.resolve(), sources, _ignore_lines(path), path)
    files = {name: file.read_bytes() for name, file in found.items()}
    executable = frozenset(name for name, file in found.items() if os.access(file, os.X_OK))
    declared = (word for item in instructions if item.name == "ARG" for word in item.words)
    return DockerfileContext(
        files=BuildContext(
            files={**files, path.name: text.encode(), RUNNER: bootstrap},
            executable=executable - {RUNNER},
            dockerfile=path.name,
        ),
        arguments=frozenset(word.partition("=")[0] for word in declared),
        warnings=tuple(_doubts(path, instructions, sources, files)),
    )


def _instructions(text: str) -> tuple[_Instruction, ...]:
    """Return a Dockerfile's instructions; the lines of a heredoc are read as such, too.

    Raises:
        ImageError: It does not start with a `FROM`.
    """
    from dockerfile_parse import DockerfileParser

    structure = DockerfileParser(fileobj=io.BytesIO(text.encode()), env_replace=False).structure
    found = tuple(
        _instruction(item["instruction"], item["value"], item["startline"] + 1)
        for item in structure
        if item["instruction"] != "COMMENT"
    )
    first = next((item for item in found if item.name != "ARG"), None)
    if first is None:
        hint = "its first instruction names the image it starts from"
        raise _refused("line 1: it has no FROM", 1, hint)
    if first.name != "FROM":
        problem = f"line {first.line}: {first.name} stands before the first FROM"
        raise _refused(problem, first.line, "start it with FROM")
    return found


def _instruction(name: str, value: str, line: int) -> _Instruction:
    words = value.split()
    flags = tuple(word for word in words if word.startswith("--"))
    rest = tuple(word.strip("\"'") for word in words if word not in flags)
    if words[len(flags) :] and words[len(flags)].startswith("["):
        # Docker, too, reads as words what is no list in JSON.
        with contextlib.suppress(ValueError):
            rest = tuple(str(word) for word in json.loads(value[value.index("[") :]))
    return _Instruction(name=name, flags=flags, words=rest, line=line)


def _sources(instructions: tuple[_Instruction, ...]) -> Iterator[str]:
    """Yield the paths and patterns that a Dockerfile takes from its directory."""
    for item in instructions:
        if item.name in ("COPY", "ADD") and not any(flag[:7] == "--from=" for flag in item.flags):
            yield from (_known_part(word) for word in item.words[:-1] if "://" not in word)
        for mount in (flag[8:] for flag in item.flags if flag.startswith("--mount=")):
            options = dict(part.partition("=")[::2] for part in mount.split(","))
            if options.get("type") == "bind" and "from" not in options:
                yield _known_part(options.get("source") or options.get("src") or ".")


def _known_part(source: str) -> str:
    """Return a source as a pattern; of one with a variable, the directory above the variable."""
    known, variable, _ = source.partition("$")
    pattern = known.rpartition("/")[0] if variable else known
    return pattern.strip("/").removeprefix("./")


def _doubts(
    path: Path,
    instructions: tuple[_Instruction, ...],
    sources: tuple[str, ...],
    files: Mapping[str, bytes],
) -> Iterator[str]:
    """Yield a sentence about what neither a Dockerfile nor the files it takes mention."""
    starts = [item.words[0] for item in instructions if item.name == "FROM" and item.words]
    if any(_OUR_BASES.search(start) for start in starts):
        return
    texts = [" ".join((*item.flags, *item.words)) for item in instructions]
    small = (content for content in files.values() if len(content) <= _MAX_READ_BYTES)
    text = "\n".join((*texts, *(content.decode(errors="replace") for content in small)))
    missing = [name for name in _PACKAGES if not _mentions(text, name)]
    lines = [_INSTALL_LINE.format(packages=" ".join(missing))] if missing else []
    unseen = [f"installs {name}" for name in missing]
    if not any(_takes(source, RUNNER) for source in sources):
        lines.append(_COPY_LINE)
        unseen.append(f"puts {RUNNER} into /app/")
    if unseen:
        yield (
            f"it cannot be seen that {path} {', '.join(unseen)}; the build's smoke test decides. "
            f"Should it fail, add at its end: {'; '.join(lines)}"
        )


def _mentions(text: str, package: str) -> bool:
    name = package.replace("-", "[-_.]")
    return re.search(rf"(?<![\w-]){name}(?![\w-])", text, re.IGNORECASE) is not None


def _refused(what: str, line: int, hint: str) -> ImageError:
    return ImageError(f"the Dockerfile cannot be used: {what}", value=line, hint=hint)


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
    for name in sorted(PatternMatcher(ignored).walk(str(root))) if wanted else []:
        file = root / name
        if not file.is_file() or not any(_takes(source, name) for source in wanted):
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
