"""Whole lines out of bytes that arrive in parts."""

from __future__ import annotations

import codecs


class LineReader:
    """Takes a text's bytes in parts of any size, and gives its lines once they are complete.

    Attributes:
        position: How many bytes were taken.
    """

    def __init__(self) -> None:
        self.position = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""

    def take(self, data: bytes) -> list[str]:
        """Return the lines that a further part completes, without their ends."""
        self.position += len(data)
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        return lines

    def end(self) -> list[str]:
        """Return the last line, if nothing ended it: no further part comes."""
        text, self._rest = self._rest + self._decoder.decode(b"", final=True), ""
        return [text] if text else []
