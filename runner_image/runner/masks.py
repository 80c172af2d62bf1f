"""Keeping the values of secrets out of what a run says of itself.

What is known is how a value looks: as it is, each of its lines, and as Python, JSON, a URL and
base64 write it. A value that was cut, reversed or computed with is not found.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from .marks import bytes_of

MASK = b"***"
MASKED_FROM_CHARACTERS = 4
"""What is shorter (`1`, `yes`) is no secret, and many a text has it in it."""
LINE_CHARACTERS = 8
"""From here on a line of a value is masked where it stands without the others."""
HELD_SECONDS = 0.5
"""How long what may be a value's beginning is held back, if something else is to be shown."""


class Masks:
    """Puts `***` in the place of values.

    Args:
        values: The values; those that are short are left alone.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        found = {form for value in values for form in _forms(value)}
        # Where one begins with another, the longer one is what was meant.
        self._forms = sorted(map(bytes_of, found), key=lambda form: (-len(form), form))
        self._ends_with_lines = not any(b"\n" in form for form in self._forms)
        self._held, self._held_since = b"", 0.0

    def __bool__(self) -> bool:
        return bool(self._forms)

    def text(self, text: str) -> str:
        """Return a text that is whole."""
        if not self._forms:
            return text
        return self._masked(bytes_of(text)).decode(errors="surrogateescape")

    def follower(self) -> Masks:
        """Return masks for another stream, of which the end of what came is kept apart."""
        other = Masks()
        other._forms, other._ends_with_lines = self._forms, self._ends_with_lines
        return other

    def feed(self, data: bytes) -> bytes:
        """Return what can be shown of output as it arrives, in pieces cut anywhere."""
        if not self._forms or not data:
            return data
        data = self._held + data
        end = self._settled(data)
        self._held, self._held_since = data[end:], time.monotonic()
        return self._masked(data[:end])

    def flush(self, *, is_last: bool = False) -> bytes:
        """Return what was held back, unless the rest of a value may be on its way."""
        if not is_last and time.monotonic() - self._held_since <= HELD_SECONDS:
            return b""
        held, self._held = self._masked(self._held), b""
        return held

    def _masked(self, data: bytes) -> bytes:
        for form in self._forms:
            # Several times faster than one expression for all of them.
            data = data.replace(form, MASK)
        return data

    def _settled(self, data: bytes) -> int:
        """Return up to where some bytes are what they are, whatever follows."""
        end = len(data) - self._begun(data)
        if end == len(data):
            return end
        for form in self._forms:
            # A value that is whole counts more than the beginning of another in it.
            position = data.find(form, max(end - len(form) + 1, 0), end + len(form) - 1)
            if position >= 0:
                whole = position + len(form)
                return whole + self._settled(data[whole:])
        return end

    def _begun(self, data: bytes) -> int:
        """Return how many bytes at the end may be the beginning of a value."""
        if self._ends_with_lines and data.endswith(b"\n"):
            return 0
        return max(_overlap(data, form) for form in self._forms)


def _overlap(data: bytes, form: bytes) -> int:
    """Return the length of the longest end of some bytes that a value begins with."""
    position = max(len(data) - len(form) + 1, 0)
    while (position := data.find(form[:1], position)) >= 0:
        if form.startswith(data[position:]):
            return len(data) - position
        position += 1
    return 0


def _forms(value: str) -> Iterator[str]:
    """Yield what a value may look like in what is printed."""
    stripped = value.strip()
    if len(stripped) < MASKED_FROM_CHARACTERS:
        return
    import json
    from urllib.parse import quote

    yield stripped
    yield repr(stripped)[1:-1]
    for is_ascii in (True, False):
        yield json.dumps(stripped, ensure_ascii=is_ascii)[1:-1]
    yield quote(stripped, safe="", errors="surrogateescape")
    yield from _in_base64(bytes_of(stripped))
    lines = map(str.strip, stripped.splitlines())
    yield from (line for line in lines if len(line) >= LINE_CHARACTERS and line[:5] != "-----")


def _in_base64(data: bytes) -> Iterator[str]:
    """Yield what of a value is the same in base64, whatever stands before and after it there."""
    from binascii import b2a_base64

    for before in range(3):
        encoded = b2a_base64(bytes(before) + data, newline=False).decode()
        # Each character has six bits: those at the ends are a neighbour's, too.
        kept = encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        if len(kept) >= LINE_CHARACTERS:
            yield kept
            yield kept.replace("+", "-").replace("/", "_")
