"""Reading a Dockerfile of somebody's own: its stages, with variables and heredocs resolved. Pure.

`dockerfile-parse` knows lines, comments, continuations and the escape directive; what it does
not know is here: heredocs, the scopes of `ARG`, and stages. The grammar is that of
https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kinetic_flows.core.errors import ImageError, suggest

INSTRUCTIONS = (
    *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL"),
    *("MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
)

_HEREDOC = re.compile(r"<<-?\s*([\"']?)(?P<word>\w+)\1")
_MAY_HAVE_HEREDOC = re.compile(r"^\s*(RUN|COPY|ADD)\s", re.IGNORECASE)
_VARIABLE = re.compile(
    r"(?P<escape>\\\$)"
    r"|\$\{(?P<braced>\w+)(?::(?P<kind>[-+])(?P<word>[^}]*))?\}"
    r"|\$(?P<plain>\w+)"
)
_FLAG = re.compile(r"^--(?P<name>[a-z]+)(?:=(?P<value>\S*))?\s*")


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One instruction of a stage.

    Attributes:
        name: Its keyword, in capitals.
        value: What follows, with variables replaced; the text of a heredoc included.
        line: Its first line in the file, from 1.
        directory: The working directory at this place.
    """

    name: str
    value: str
    line: int
    directory: str

    @property
    def flags(self) -> tuple[tuple[str, str], ...]:
        """Its `--flag=value` pairs."""
        return self._split()[0]

    @property
    def words(self) -> tuple[str, ...]:
        """Its words after the flags: those of a JSON list, or as a shell splits them."""
        rest = self._split()[1]
        if rest.startswith("["):
            try:
                return tuple(str(word) for word in json.loads(rest))
            except ValueError:
                pass  # Docker, too, reads it as words then
        return split_words(rest)

    def flag(self, name: str) -> str | None:
        """Return the value of a flag; None when it is not given."""
        return dict(self.flags).get(name)

    def _split(self) -> tuple[tuple[tuple[str, str], ...], str]:
        flags, rest = [], self.value.strip()
        while match := _FLAG.match(rest):
            flags.append((match["name"], match["value"] or ""))
            rest = rest[match.end() :]
        return tuple(flags), rest


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One `FROM` and what follows it.

    Attributes:
        base: The image, or the name of the earlier stage, that it starts from.
        name: Its own name; empty when it has none.
        line: Line of its `FROM`, from 1.
        instructions: Its instructions, without `ONBUILD`'s: those do not run in this build.
        onbuild: What stands after `ONBUILD`.
    """

    base: str
    name: str
    line: int
    instructions: tuple[Instruction, ...]
    onbuild: tuple[Instruction, ...]


@dataclass(frozen=True, kw_only=True)
class Dockerfile:
    """A Dockerfile as read.

    Attributes:
        stages: Its stages, in order; the last one is what a build makes.
        arguments: Names of the `ARG`s it declares anywhere.
    """

    stages: tuple[Stage, ...]
    arguments: frozenset[str]

    def find(self, name: str, before: Stage) -> Stage | None:
        """Return the earlier stage that a name or a number means; None when it is an image."""
        earlier = self.stages[: self.stages.index(before)]
        if name.isdigit():
            return earlier[int(name)] if int(name) < len(earlier) else None
        matching = [stage for stage in earlier if stage.name and stage.name == name.lower()]
        return matching[-1] if matching else None


@dataclass
class _Reading:
    """What is known while a Dockerfile is being read."""

    given: Mapping[str, str]
    global_arguments: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    variables: dict[str, str] = field(default_factory=dict)
    directory: str = "/"
    stages: list[Stage] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    onbuild: list[Instruction] = field(default_factory=list)

    def take(self, name: str, value: str, line: int) -> None:
        """Take the next instruction."""
        if name == "FROM":
            self._start_stage(value, line)
        elif name == "ARG":
            self._declare(value)
        elif not self.stages:
            raise _refused(f"{name} stands before the first FROM", line, "start it with FROM")
        else:
            self._keep(name, value, line)

    def _start_stage(self, value: str, line: int) -> None:
        self.finish_stage()
        words = split_words(replace_variables(value, self.global_arguments))
        words = tuple(word for word in words if not word.startswith("--"))
        if not words:
            hint = "give its ARG a default above the first FROM"
            raise _refused(f"the image in `FROM {value}` is empty", line, hint)
        name = words[2].lower() if len(words) == 3 and words[1].lower() == "as" else ""
        self.stages.append(Stage(base=words[0], name=name, line=line, instructions=(), onbuild=()))
        self.variables, self.directory = {}, "/"

    def finish_stage(self) -> None:
        """Close the stage that is being read."""
        if self.stages:
            last = self.stages[-1]
            self.stages[-1] = Stage(
                base=last.base,
                name=last.name,
                line=last.line,
                instructions=tuple(self.instructions),
                onbuild=tuple(self.onbuild),
            )
        self.instructions, self.onbuild = [], []

    def _declare(self, value: str) -> None:
        """Take an `ARG`: before the first FROM it serves every FROM, later its own stage."""
        for pair in split_words(replace_variables(value, self._scope)):
            name, has_default, default = pair.partition("=")
            self.declared.add(name)
            known = self.given.get(name)
            if known is None:
                known = default if has_default else self.global_arguments.get(name, "")
            self._scope[name] = known

    @property
    def _scope(self) -> dict[str, str]:
        return self.variables if self.stages else self.global_arguments

    def _keep(self, name: str, value: str, line: int) -> None:
        target, text = self.instructions, replace_variables(value, self.variables)
        if name == "ONBUILD":
            name, _, text = text.strip().partition(" ")
            name, target = name.upper(), self.onbuild
        elif name == "ENV":
            self._set_variables(text)
        elif name == "WORKDIR":
            self.directory = join(self.directory, text.strip().strip("\"'"))
        target.append(Instruction(name=name, value=text, line=line, directory=self.directory))

    def _set_variables(self, text: str) -> None:
        words = split_words(text)
        if words and "=" not in words[0]:
            self.variables[words[0]] = text.strip().partition(" ")[2].strip()
            return
        self.variables |= {
            name: value for name, _, value in (word.partition("=") for word in words)
        }


def read_dockerfile(text: str, arguments: Mapping[str, str]) -> Dockerfile:
    """Read a Dockerfile.

    Args:
        text: Its text.
        arguments: Values that the build gives to its `ARG`s.

    Raises:
        ImageError: It is no Dockerfile.
    """
    from dockerfile_parse import DockerfileParser

    plain, heredocs = _take_heredocs_out(text)
    reading = _Reading(given=arguments)
    parser = DockerfileParser(fileobj=io.BytesIO(plain.encode()), env_replace=False)
    for item in parser.structure:
        name, line = item["instruction"], item["startline"] + 1
        if name == "COMMENT":
            continue
        if name not in INSTRUCTIONS:
            valid = (known.lower() for known in INSTRUCTIONS)
            raise _refused(f"{name!r} is no instruction", line, suggest(name, valid))
        body = heredocs.get(line, "")
        reading.take(name, f"{item['value']}\n{body}" if body else item["value"], line)
    reading.finish_stage()
    if not reading.stages:
        raise _refused("it has no FROM", 1, "its first instruction names the image it starts from")
    return Dockerfile(
        stages=tuple(reading.stages),
        arguments=frozenset(reading.declared),
    )


def replace_variables(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$name`, `${name}`, `${name:-word}` and `${name:+word}`; unknown ones stay."""

    def value(match: re.Match[str]) -> str:
        if match["escape"]:
            return match[0]
        found = variables.get(match["braced"] or match["plain"])
        if match["kind"] == "-":
            return found or match["word"]
        if match["kind"] == "+":
            return match["word"] if found else ""
        return match[0] if found is None else found

    return _VARIABLE.sub(value, text)


def split_words(text: str) -> tuple[str, ...]:
    """Split a text as a shell does; at white space alone when its quotes do not match."""
    try:
        return tuple(shlex.split(text, comments=False))
    except ValueError:
        return tuple(text.split())


def join(directory: str, path: str) -> str:
    """Return a path of the image: an absolute one, or one relative to a directory."""
    parts: list[str] = []
    for part in (path if path.startswith("/") else f"{directory}/{path}").split("/"):
        if part == "..":
            parts[-1:] = []
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _take_heredocs_out(text: str) -> tuple[str, dict[int, str]]:
    """Return a Dockerfile with its heredocs' bodies blank, and the bodies by line from 1."""
    lines = text.splitlines()
    bodies: dict[int, str] = {}
    numbered = iter(enumerate(lines, start=1))
    for number, line in numbered:
        if not _MAY_HAVE_HEREDOC.match(line):
            continue
        words = [match["word"] for match in _HEREDOC.finditer(line)]
        body = [content for word in words for content in _heredoc(word, numbered, lines)]
        if body:
            bodies[number] = "\n".join(body)
    return "\n".join(lines) + "\n", bodies


def _heredoc(word: str, numbered: Iterator[tuple[int, str]], lines: list[str]) -> Iterator[str]:
    """Yield the lines of a heredoc, making them blank on the way."""
    for number, line in numbered:
        lines[number - 1] = ""
        if line.strip() == word:
            return
        yield line


def _refused(what: str, line: int, hint: str) -> ImageError:
    return ImageError(f"the Dockerfile cannot be used: line {line}: {what}", value=line, hint=hint)
