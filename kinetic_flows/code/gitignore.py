"""Patterns of gitignore, matched as git matches them (https://git-scm.com/docs/gitignore).

A pattern is asked about one path and says nothing of what lies below it: who walks a tree from
the top, and enters no directory that is excluded, gets git's result. Git compares bytes, so a
`?` is one byte of a name, and so do these patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_SPECIAL = b"*?[\\"
_EVERY_BYTE = frozenset(range(256))
_SLASH = frozenset(b"/")
_LETTERS = frozenset(b"abcdefghijklmnopqrstuvwxyz")
_CAPITALS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_DIGITS = frozenset(b"0123456789")
_PRINTED = frozenset(range(0x20, 0x7F))
_ALNUM = _LETTERS | _CAPITALS | _DIGITS
_CLASSES = {
    b"alnum": _ALNUM,
    b"alpha": _LETTERS | _CAPITALS,
    b"blank": frozenset(b" \t"),
    b"cntrl": frozenset({*range(0x20), 0x7F}),
    b"digit": _DIGITS,
    b"graph": _PRINTED - frozenset(b" "),
    b"lower": _LETTERS,
    b"print": _PRINTED,
    b"punct": _PRINTED - _ALNUM - frozenset(b" "),
    b"space": frozenset(b" \t\n\r"),
    b"upper": _CAPITALS,
    b"xdigit": _DIGITS | frozenset(b"abcdefABCDEF"),
}


class _Pattern(NamedTuple):
    """One line: what it matches, and what it says of that."""

    text: bytes
    brings_back: bool
    directories_only: bool


class _Glob(NamedTuple):
    """A pattern that is more than a name."""

    position: int
    directories_only: bool
    of_name: bool
    matches: re.Pattern[bytes]


class GitIgnore:
    """The patterns of some lines, of which the last that matches decides.

    Args:
        lines: Lines in gitignore syntax, without comments and ends of line.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        patterns = [_parse(_bytes(line)) for line in lines]
        self._brings_back = [pattern.brings_back for pattern in patterns]
        self._names: dict[bytes, list[tuple[int, bool]]] = {}
        self._globs: list[_Glob] = []
        for index, pattern in enumerate(patterns):
            self._add(index, pattern)
        self._globs.reverse()
        self._any_name = _any_of(glob for glob in self._globs if glob.of_name)
        self._any_path = _any_of(glob for glob in self._globs if not glob.of_name)

    def last_match(self, path: str, *, is_directory: bool = False) -> int | None:
        """Return the position of the last line that matches exactly this path, if one does."""
        whole = _bytes(path)
        name = whole.rpartition(b"/")[2]
        best = -1
        for index, directories_only in self._names.get(name, ()):
            if is_directory or not directories_only:
                best = index
        if self._any_name.fullmatch(name) or self._any_path.fullmatch(whole):
            best = max(best, self._last_glob(whole, name, is_directory, best))
        return best if best >= 0 else None

    def brings_back(self, index: int) -> bool:
        """Whether the line at a position begins with `!`."""
        return self._brings_back[index]

    def _add(self, index: int, pattern: _Pattern) -> None:
        of_name = b"/" not in pattern.text
        if of_name and not _has_special(pattern.text):
            self._names.setdefault(pattern.text, []).append((index, pattern.directories_only))
            return
        expression = _translate(pattern.text) if of_name else _translate_path(pattern.text)
        if expression is not None:
            matches = re.compile(expression, re.DOTALL)
            self._globs.append(_Glob(index, pattern.directories_only, of_name, matches))

    def _last_glob(self, path: bytes, name: bytes, is_directory: bool, above: int) -> int:
        for glob in self._globs:
            if glob.position < above:
                break
            if glob.directories_only and not is_directory:
                continue
            if glob.matches.fullmatch(name if glob.of_name else path):
                return glob.position
        return -1


def ignore_lines(content: bytes) -> list[str]:
    """Return the lines of a file that are patterns."""
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    kept = [_trimmed(line.removesuffix(b"\r")) for line in lines if not line.startswith(b"#")]
    return [line.decode("utf-8", "surrogateescape") for line in kept if line]


def _trimmed(line: bytes) -> bytes:
    """Remove spaces at the end, up to one that a backslash protects."""
    line = line.partition(b"\0")[0]
    end = len(line)
    while end and line[end - 1 : end] == b" ":
        end -= 1
    backslashes = end - len(line[:end].rstrip(b"\\"))
    is_protected = end < len(line) and backslashes % 2 == 1
    return line[: end + 1] if is_protected else line[:end]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _parse(text: bytes) -> _Pattern:
    brings_back = text.startswith(b"!")
    text = text.removeprefix(b"!")
    directories_only = text.endswith(b"/")
    return _Pattern(text.removesuffix(b"/"), brings_back, directories_only)


def _any_of(globs: Iterable[_Glob]) -> re.Pattern[bytes]:
    """Return one expression that matches whatever any of several does, to ask only once."""
    parts = [b"(?:" + glob.matches.pattern + b")" for glob in globs]
    return re.compile(b"|".join(parts) or rb"(?!)", re.DOTALL)


def _has_special(text: bytes) -> bool:
    return any(byte in _SPECIAL for byte in text)


def _translate_path(text: bytes) -> bytes | None:
    """Translate a pattern with a slash, which is matched against the whole path."""
    text = text.removeprefix(b"/")
    plain = next((at for at, byte in enumerate(text) if byte in _SPECIAL), len(text))
    # Git compares what comes before the first wildcard apart and then begins anew, so that
    # `**` is special right after it, too.
    rest = _translate(text[plain:], is_path=True)
    return None if rest is None else re.escape(text[:plain]) + rest


def _translate(text: bytes, *, is_path: bool = False) -> bytes | None:
    """Return a pattern as a regular expression; None when it can match nothing."""
    parts: list[bytes] = []
    at = 0
    while at < len(text):
        byte = text[at : at + 1]
        if byte == b"*":
            part, at = _stars(text, at, is_path)
        elif byte == b"?":
            part, at = (b"[^/]" if is_path else b"."), at + 1
        elif byte == b"[":
            found = _bracket(text, at + 1)
            if found is None:
                return None
            allowed, at = found
            part = _class(allowed - _SLASH if is_path else allowed)
        else:
            at += byte == b"\\"
            if at == len(text):
                return None
            part, at = re.escape(text[at : at + 1]), at + 1
        parts.append(part)
    return b"".join(parts)


def _stars(text: bytes, at: int, is_path: bool) -> tuple[bytes, int]:
    """Translate one or more stars, and return where they end."""
    end = at
    while text[end : end + 1] == b"*":
        end += 1
    if not is_path:
        return b".*", end
    starts_part = at == 0 or text[at - 1 : at] == b"/"
    after = text[end : end + 2]
    if end - at == 1 or not starts_part or not (after[:1] in (b"", b"/") or after == b"\\/"):
        return b"[^/]*", end
    return (b"(?:.*/)?", end + 1) if after[:1] == b"/" else (b".*", end)


def _class(allowed: frozenset[int]) -> bytes:
    if not allowed:
        return b"(?!)"
    return b"[" + b"".join(b"\\x%02x" % byte for byte in sorted(allowed)) + b"]"


def _bracket(text: bytes, at: int) -> tuple[frozenset[int], int] | None:
    """Read a bracket expression from behind its `[`; None when it is malformed."""
    is_negated = text[at : at + 1] in (b"!", b"^")
    at += is_negated
    allowed: set[int] = set()
    previous: int | None = None
    is_first = True
    while is_first or text[at : at + 1] != b"]":
        is_first = False
        found = _element(text, at, previous)
        if found is None:
            return None
        members, previous, at = found
        allowed |= members
    return (_EVERY_BYTE - allowed if is_negated else frozenset(allowed)), at + 1


_Element = tuple[frozenset[int], "int | None", int]
"""What an element of a bracket matches, what a range could begin with, and where it ends."""


def _element(text: bytes, at: int, previous: int | None) -> _Element | None:
    """Read one element of a bracket expression."""
    after = text[at + 1 : at + 2]
    if text[at : at + 1] == b"-" and previous is not None and after not in (b"", b"]"):
        last = _character(text, at + 1)
        if last is None:
            return None
        return frozenset(range(previous, last[0] + 1)), None, last[1]
    if text[at : at + 2] == b"[:":
        return _named_class(text, at)
    first = _character(text, at)
    return None if first is None else (frozenset({first[0]}), *first)


def _named_class(text: bytes, at: int) -> _Element | None:
    end = text.find(b"]", at + 2)
    if end < 0:
        return None
    if end == at + 2 or text[end - 1 : end] != b":":
        return frozenset(b"["), ord("["), at + 1
    members = _CLASSES.get(text[at + 2 : end - 1])
    return None if members is None else (members, None, end + 1)


def _character(text: bytes, at: int) -> tuple[int, int] | None:
    """Read one character of a bracket expression, which a backslash may protect."""
    at += text[at : at + 1] == b"\\"
    return (text[at], at + 1) if at < len(text) else None
