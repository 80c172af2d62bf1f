"""How far a pod's output was read, so that another connection goes on exactly there.

A node shows only the newest file of a container's output, so a place in it is no number of bytes:
it is a line's time. Every line is asked for with the time at which it was printed.
https://kubernetes.io/docs/concepts/cluster-administration/logging/#log-rotation
"""

from __future__ import annotations

import re

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d) ")
_LONGEST_STAMP = 40


class LogCursor:
    """Takes a pod's output from connections that follow one another, each byte once.

    Attributes:
        total: How many bytes were taken.
    """

    def __init__(self) -> None:
        self.total = 0
        self._zone, self._newest = b"", b""
        # Bytes taken of the lines of each second, of the last ones.
        self._given: dict[bytes, int] = {}
        # Of the connection at hand:
        self._unread = b""
        self._is_in_line = False
        self._is_foreign = False
        self._second = b""
        self._skip = 0

    def open(self) -> dict[str, str]:
        """Begin another connection; return what to ask the node for."""
        self._unread, self._is_in_line = b"", False
        # Times are asked for in whole seconds: the lines of the last ones come again.
        self._skip = sum(self._given.values())
        query = {"follow": "true", "timestamps": "true"}
        if self._given:
            query["sinceTime"] = (min(self._given) + self._zone).decode()
        return query

    def take(self, chunk: bytes) -> bytes:
        """Return what is new in a part of the answer, without the times."""
        text, fresh, position = self._unread + chunk, bytearray(), 0
        self._unread = b""
        while position < len(text):
            if not self._is_in_line:
                found = _STAMP.match(text, position)
                if found is None and _may_be_cut(text, position):
                    self._unread = text[position:]
                    break
                self._begin_line(found)
                position = found.end() if found else position
            end = text.find(b"\n", position) + 1 or len(text)
            self._is_in_line = not text.endswith(b"\n", position, end)
            fresh += self._new_of(text[position:end])
            position = end
        return bytes(fresh)

    def _begin_line(self, stamp: re.Match[bytes] | None) -> None:
        # Without a time it is the node that speaks, such as of output that it cannot read now.
        self._is_foreign = stamp is None
        if stamp is None:
            return
        if self._skip and stamp[0] > self._newest:
            # The lines that would have come again went with a file that was rotated away.
            self._skip = 0
        self._second, self._zone = stamp[1], stamp[2]
        if stamp[0] > self._newest:
            # The second before the newest is kept: two streams may be a little out of order.
            last = self._newest[: len(self._second)]
            self._given = {at: count for at, count in self._given.items() if at >= last}
            self._newest = stamp[0]
        if not self._given or self._second >= min(self._given):
            self._given.setdefault(self._second, 0)

    def _new_of(self, content: bytes) -> bytes:
        if self._is_foreign:
            return b""
        skipped = min(self._skip, len(content))
        self._skip -= skipped
        new = content[skipped:]
        if self._second in self._given:
            self._given[self._second] += len(new)
        self.total += len(new)
        return new


def _may_be_cut(text: bytes, position: int) -> bool:
    """Whether a line's time may have been cut in two on its way."""
    rest = text[position : position + _LONGEST_STAMP]
    return len(rest) < _LONGEST_STAMP and b"\n" not in rest and b" " not in rest
