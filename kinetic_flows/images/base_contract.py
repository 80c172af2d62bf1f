"""What a Dockerfile of somebody's own must do to make a base image, looked for before it is built.

The runner needs uv, cloudpickle and google-cloud-storage, and its bootstrap at
`/app/remote_runner.py`. A Dockerfile says so in many ways, and may leave it to a script or to
the image it starts from. So what cannot be seen here is a warning, and the smoke test within the
build decides. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from kinetic_flows.images.dockerfile_parser import Dockerfile, Instruction, Stage, join, split_words

RUNNER = "remote_runner.py"
RUNNER_PATH = f"/app/{RUNNER}"
PACKAGES = ("uv", "cloudpickle", "google-cloud-storage")
INSTALL_LINE = "RUN python3 -m pip install --no-cache-dir {packages}"
COPY_LINE = f"COPY {RUNNER} /app/"

_OUR_BASES = re.compile(r"(?:^|[/-])base-(?:cpu|gpu|tpu)(?:[:@]|$)")
_COMMANDS = re.compile(r"&&|\|\||[;|\n]")
_INSTALLERS = re.compile(r"^(?:.*/)?(?:pip[\d.]*|uv|conda|mamba|micromamba|poetry|pipx)$")
_VERBS = frozenset({"install", "add", "sync"})
_FILE_OPTIONS = ("--requirement", "--requirements", "-r")
_PROJECT_FILE = "pyproject.toml"


@dataclass(frozen=True, kw_only=True)
class _Content:
    """What a stage has: packages, and whether the bootstrap is in its place."""

    packages: frozenset[str] = frozenset()
    has_runner: bool = False

    def __or__(self, other: _Content) -> _Content:
        return _Content(
            packages=self.packages | other.packages,
            has_runner=self.has_runner or other.has_runner,
        )


def doubts(dockerfile: Dockerfile, files: Mapping[str, bytes], *, path: str) -> tuple[str, ...]:
    """Return what cannot be seen to be installed and copied, of what the runner needs.

    Args:
        dockerfile: The Dockerfile.
        files: The files of its directory: requirement files among them are read.
        path: What to call it.

    Returns:
        A sentence with the lines to add, should the build's smoke test miss something; nothing
        when all is seen.
    """
    stage = dockerfile.stages[-1]
    content = _content(dockerfile, stage, files)
    missing = [name for name in PACKAGES if name not in content.packages]
    lines = [INSTALL_LINE.format(packages=" ".join(missing))] if missing else []
    unseen = [f"installs {name}{_elsewhere(stage, name)}" for name in missing]
    if not content.has_runner:
        lines.append(COPY_LINE)
        unseen.append(f"puts {RUNNER} into /app/{_elsewhere(stage, RUNNER)}")
    if not unseen:
        return ()
    after = max([stage.line, *(item.line for item in stage.instructions)])
    sentence = (
        f"it cannot be seen that {path} {', '.join(unseen)}; the build's smoke test decides. "
        f"Should it fail, add after line {after}: {'; '.join(lines)}"
    )
    return (sentence,)


def _content(dockerfile: Dockerfile, stage: Stage, files: Mapping[str, bytes]) -> _Content:
    """Return what a stage has, with what it takes from earlier ones."""
    found = _Content()
    parent = dockerfile.find(stage.base, stage)
    if parent is not None:
        found |= _content(dockerfile, parent, files)
    elif _OUR_BASES.search(stage.base):
        found |= _Content(packages=frozenset(PACKAGES), has_runner=True)
    elif "astral-sh/uv" in stage.base:
        found |= _Content(packages=frozenset({"uv"}))
    names = _names_in_image(stage)
    # What stands after ONBUILD runs at the start of the stages made from this one.
    triggered = parent.onbuild if parent else ()
    for item in (*triggered, *stage.instructions):
        if item.name == "RUN":
            found |= _Content(packages=frozenset(_installed(item, files, names)))
        elif item.name in ("COPY", "ADD"):
            found |= _copied(dockerfile, stage, item, files)
    return found


def _copied(
    dockerfile: Dockerfile, stage: Stage, item: Instruction, files: Mapping[str, bytes]
) -> _Content:
    """Return what a COPY or ADD brings."""
    *sources, target = item.words or ("",)
    origin = item.flag("from")
    if origin is None:
        from_web = any("astral.sh/uv" in source for source in sources)
        return _Content(
            packages=frozenset({"uv"}) if from_web else frozenset(),
            has_runner=_puts_runner(item, sources, target),
        )
    earlier = dockerfile.find(origin, stage)
    if earlier is None:
        is_uv = re.search(r"(?:^|/)uv$", target.rstrip("/")) or any(
            re.search(r"(?:^|/)uv$", source) for source in sources
        )
        return _Content(packages=frozenset({"uv"}) if is_uv else frozenset())
    # Which of its files are packages cannot be told from here: the smoke test can.
    brought = _content(dockerfile, earlier, files)
    places = {"/", "/app", RUNNER_PATH}
    keeps_place = any(
        join("/", source) in places and join(item.directory, target) in places for source in sources
    )
    return _Content(packages=brought.packages, has_runner=brought.has_runner and keeps_place)


def _puts_runner(item: Instruction, sources: list[str], target: str) -> bool:
    whole = any(source.rstrip("/") in ("", ".", "*") for source in sources)
    names = [source.removeprefix("./").lstrip("/") for source in sources]
    if not whole and not any(fnmatchcase(RUNNER, name) for name in names):
        return False
    place = join(item.directory, target)
    # `COPY remote_runner.py /app` makes a file of that name unless the directory exists.
    is_directory = target.endswith(("/", "/.")) or whole or len(sources) > 1
    is_directory = is_directory or place == item.directory
    return place == RUNNER_PATH or (place == "/app" and is_directory)


def _installed(
    item: Instruction, files: Mapping[str, bytes], names: Mapping[str, str]
) -> Iterator[str]:
    """Yield the packages that a RUN installs."""
    if "astral.sh/uv" in item.value:
        yield "uv"
    names = {**names, **_mounted(item)}
    text = item.value
    commands = [" ".join(item.words)] if text.lstrip().startswith("[") else _COMMANDS.split(text)
    for command in commands:
        words = split_words(command)
        verb = _verb(words)
        if verb is not None:
            yield from _packages(words[verb:], files, names)


def _verb(words: tuple[str, ...]) -> int | None:
    """Return the position of an installer's verb; None when the command installs nothing."""
    tool = next((n for n, word in enumerate(words) if _INSTALLERS.match(word)), None)
    if tool is None:
        return None
    return next((n for n in range(tool + 1, len(words)) if words[n] in _VERBS), None)


def _packages(
    words: tuple[str, ...], files: Mapping[str, bytes], names: Mapping[str, str]
) -> Iterator[str]:
    """Yield the packages of an installer's verb and what follows it."""
    verb, *rest = words
    if verb == "sync" and not any(not word.startswith("-") for word in rest):
        yield from _in_file(_PROJECT_FILE, files, names)
    following = iter(rest)
    for word in following:
        option, has_value, value = word.partition("=")
        if option in _FILE_OPTIONS:
            yield from _in_file(value if has_value else next(following, ""), files, names)
        elif word.startswith("-r"):
            yield from _in_file(word[2:], files, names)
        elif word.startswith("."):
            yield from _in_file(_PROJECT_FILE, files, names)
        elif word.endswith(".txt"):
            yield from _in_file(word, files, names)
        elif not word.startswith("-"):
            yield from _name_of(word)


def _name_of(requirement: str) -> Iterator[str]:
    try:
        yield canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:
        match = re.match(r"[A-Za-z0-9][\w.-]*(?==)", requirement)  # conda's name=version
        if match:
            yield canonicalize_name(match[0])


def _in_file(path: str, files: Mapping[str, bytes], names: Mapping[str, str]) -> Iterator[str]:
    """Yield the packages that a file of the build context requires."""
    name = path.rpartition("/")[2]
    name = names.get(name, name)
    for found, content in files.items():
        if found == name or found.endswith(f"/{name}"):
            yield from _required(content.decode(errors="replace"), found)


def _required(text: str, name: str) -> Iterator[str]:
    if not name.endswith(".toml"):
        for line in text.splitlines():
            yield from _name_of(line.partition(" #")[0].partition("--hash")[0].rstrip(" \\"))
        return
    for quoted in re.findall(r"[\"']([^\"'\n]+)[\"']", text):
        yield from _name_of(quoted)


def _names_in_image(stage: Stage) -> dict[str, str]:
    """Return which file of the context a file's name in the image stands for."""
    copies = (item for item in stage.instructions if item.name in ("COPY", "ADD"))
    return dict(
        pair
        for item in copies
        if item.flag("from") is None and len(item.words) == 2
        for pair in _renamed(item.words[0], item.words[1])
    )


def _mounted(item: Instruction) -> dict[str, str]:
    """Return likewise the names that `RUN --mount=type=bind` gives."""
    mounts = (value for name, value in item.flags if name == "mount")
    options = [dict(_pairs(value.split(","))) for value in mounts]
    return dict(
        pair
        for option in options
        for pair in _renamed(
            option.get("source", option.get("src", "")),
            option.get("target", option.get("dst", option.get("destination", ""))),
        )
    )


def _pairs(parts: Iterable[str]) -> Iterator[tuple[str, str]]:
    for part in parts:
        name, _, value = part.partition("=")
        yield name, value


def _renamed(source: str, target: str) -> Iterator[tuple[str, str]]:
    new, old = target.rpartition("/")[2], source.rpartition("/")[2]
    if new and old:
        yield new, old


def _elsewhere(stage: Stage, what: str) -> str:
    """Say that it stands where it has no effect on this image."""
    for item in stage.onbuild:
        if what in item.value:
            return f" (line {item.line} does so ONBUILD: only in images made from this one)"
    return ""
