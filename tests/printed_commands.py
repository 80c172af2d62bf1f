"""Every command that the product prints, in its messages, its help and its documentation."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
SOURCES = ("kinetic_flows", "blocks", "runner_image")
PROGRAMS = ("kinetic", "prefect", "gcloud", "kubectl")
PLACEHOLDER = "SAMPLE"
"""What stands for a value that a message gets when it is printed."""

_WORDS = rf"(?:{'|'.join(PROGRAMS)}) [a-z-]"
_QUOTED = re.compile(rf"`({_WORDS}[^`]*)`")
_AFTER_COLON = re.compile(rf": ({_WORDS}[^;`\n]*)$", re.MULTILINE)
_WHOLE = re.compile(rf"^\s*({_WORDS}[^`]*)$")
_SUBSTITUTION = re.compile(r"\$\(([^()]*)\)")
_NO_COMMANDS = (
    "kinetic base for",
    "kinetic project on",
    f"kinetic lock {PLACEHOLDER}\n",
    "kinetic and ",
    "Usage: ",
)
"""How texts begin that are titles and marks."""


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A command as it is printed.

    Attributes:
        where: The file it stands in.
        words: The command, its program first.
        is_whole: Whether a person would paste it, and does not merely read its name.
        is_let_in: Whether it stands behind a line that gives Prefect's commands the password.
    """

    where: str
    words: tuple[str, ...]
    is_whole: bool
    is_let_in: bool = False

    @property
    def text(self) -> str:
        """The command on a line."""
        return shlex.join(self.words)


@cache
def printed_commands() -> tuple[Printed, ...]:
    """Return all commands, each once for a file."""
    found = [*_of_the_product(), *_of_the_pages(), *_of_the_examples()]
    return tuple(dict.fromkeys(found))


def _of_the_product() -> Iterator[Printed]:
    for path in (path for part in SOURCES for path in sorted((CHECKOUT / part).rglob("*.py"))):
        source = path.read_text()
        # Taking it apart takes longer than all else here.
        if not any(f"{program} " in source for program in PROGRAMS):
            continue
        for node, is_docstring in _texts(ast.parse(source)):
            text = _text(node)
            if text.startswith(_NO_COMMANDS):
                continue
            patterns = (_QUOTED,) if is_docstring else (_QUOTED, _AFTER_COLON, _WHOLE)
            lines = [line for pattern in patterns for line in pattern.findall(text)]
            for line in dict.fromkeys(lines):
                yield from _commands(path, line, is_whole=False)


def _texts(tree: ast.AST) -> Iterator[tuple[ast.expr, bool]]:
    """Yield texts, those with values in them as one, and whether they are docstrings."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.JoinedStr) or (
            isinstance(child, ast.Constant) and isinstance(child.value, str)
        ):
            yield child, isinstance(tree, ast.Expr)
        else:
            yield from _texts(child)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(each.value) if isinstance(each, ast.Constant) else PLACEHOLDER
            for each in node.values
        )
    assert isinstance(node, ast.Constant)
    return str(node.value)


def _of_the_pages() -> Iterator[Printed]:
    pages = [*sorted((CHECKOUT / "docs").glob("*.md")), *sorted(CHECKOUT.glob("*.md"))]
    for path in (page for page in pages if page.name not in ("CHANGELOG.md", "upstream.md")):
        parts = re.split(r"^\s*```(\w*)\n(.*?)^\s*```", path.read_text(), flags=re.M | re.S)
        for prose, block in zip(parts[::3], [*parts[2::3], ""], strict=True):
            for line in _QUOTED.findall(re.sub(r"\s+", " ", prose)):
                yield from _commands(path, line, is_whole=False)
            yield from _of_a_block(path, block)


def _of_a_block(path: Path, block: str) -> Iterator[Printed]:
    is_let_in = False
    for line in block.replace("\\\n", " ").splitlines():
        typed = line.strip().removeprefix("$ ")
        is_let_in = is_let_in or "kinetic server env" in typed
        if line.strip().startswith("$ ") or re.match(r"\s*(?:gcloud|kubectl) ", line):
            yield from _commands(path, typed, is_whole=True, is_let_in=is_let_in)
        else:
            for found in _AFTER_COLON.findall(line):
                yield from _commands(path, found, is_whole=False)


def _of_the_examples() -> Iterator[Printed]:
    for folder in ("examples", "deployments"):
        for path in sorted((CHECKOUT / folder).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                text = re.sub(r"\\\n(?:#   |    )\s*", " ", path.read_text())
                for line in re.findall(rf"^(?:#   |    )({_WORDS}.*)$", text, re.M):
                    yield from _commands(path, line, is_whole=True)


def _commands(
    path: Path, line: str, *, is_whole: bool, is_let_in: bool = False
) -> Iterator[Printed]:
    """Yield the commands of a line, as a shell would take it apart."""
    for inner in _SUBSTITUTION.findall(line):
        yield from _commands(path, inner, is_whole=is_whole, is_let_in=is_let_in)
    outer = _SUBSTITUTION.sub(PLACEHOLDER, line)
    lexer = shlex.shlex(outer.rstrip(" .,"), posix=True, punctuation_chars="|&;>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;>"):
            if words and words[0] in PROGRAMS:
                yield Printed(
                    where=str(path.relative_to(CHECKOUT)),
                    words=tuple(words),
                    is_whole=is_whole,
                    is_let_in=is_let_in,
                )
            words = []
        else:
            words.append(word)
