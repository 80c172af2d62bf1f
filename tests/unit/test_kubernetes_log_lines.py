"""A pod's output over connections that are cut anywhere: nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetic_flows.platforms.gke.log_lines import LogCursor

Line = tuple[int, bytes]
"""When a line was printed, in tenths of a second, and the line."""

TEXTS = st.binary(max_size=12).map(lambda text: text.replace(b"\n", b" ") + b"\n")
MOMENTS = st.integers(0, 40)


def stamp(tenths: int) -> bytes:
    return b"2026-01-01T00:00:%02d.%d00000000Z" % divmod(tenths, 10)


def answer(lines: Sequence[Line], query: dict[str, str]) -> bytes:
    """Answer as a node does: with what its newest file has, from a whole second on."""
    assert query["timestamps"] == "true"
    since = query.get("sinceTime", "").encode().removesuffix(b"Z")
    return b"".join(
        stamp(moment) + b" " + text for moment, text in lines if stamp(moment)[:19] >= since
    )


def read(cursor: LogCursor, text: bytes, cuts: Sequence[int]) -> bytes:
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return b"".join(cursor.take(text[a:b]) for a, b in pairwise(edges))


@given(
    lines=st.lists(st.tuples(MOMENTS, TEXTS), max_size=30).map(sorted),
    ends=st.lists(st.integers(0, 900), max_size=4),
    cuts=st.lists(st.integers(0, 900), max_size=5),
)
def test_whatever_connections_are_cut_every_byte_comes_once_and_in_order(lines, ends, cuts):
    cursor, seen = LogCursor(), b""
    for end in ends:
        seen += read(cursor, answer(lines, cursor.open())[:end], cuts)
    seen += read(cursor, answer(lines, cursor.open()), cuts)
    assert seen == b"".join(text for _, text in lines)
    assert cursor.total == len(seen)


@given(
    lines=st.lists(
        st.tuples(MOMENTS, TEXTS), min_size=1, max_size=20, unique_by=lambda line: line[0]
    ),
    data=st.data(),
)
def test_what_is_printed_after_a_file_was_rotated_away_is_not_taken_for_what_was_read(lines, data):
    lines = sorted(lines)
    rotated = data.draw(st.integers(0, len(lines)))
    cursor = LogCursor()
    seen = read(cursor, answer(lines[:rotated], cursor.open()), [])
    seen += read(cursor, answer(lines[rotated:], cursor.open()), [])
    assert seen == b"".join(text for _, text in lines)


def test_lines_of_two_streams_that_are_a_little_out_of_order_come_once():
    lines = [(9, b"a\n"), (11, b"b\n"), (10, b"c\n"), (9, b"d\n"), (12, b"e\n")]
    for known in range(len(lines) + 1):
        cursor = LogCursor()
        seen = read(cursor, answer(lines[:known], cursor.open()), [])
        seen += read(cursor, answer(lines, cursor.open()), [])
        assert seen == b"a\nb\nc\nd\ne\n"


@pytest.mark.parametrize(
    "words",
    [
        b"unable to retrieve container logs for containerd://5f8a\n",
        b'failed to watch file "/var/log/pods/x/0.log": no such file or directory\n',
        b"unable to retrieve container logs for containerd://5f8a",
        b"\n",
    ],
)
def test_what_the_node_says_itself_is_no_output(words):
    cursor = LogCursor()
    cursor.open()
    assert cursor.take(stamp(1) + b" one\n" + words) == b"one\n"
    assert read(cursor, answer([(1, b"one\n"), (2, b"two\n")], cursor.open()), []) == b"two\n"


def test_times_of_nodes_that_keep_another_zone_are_asked_for_in_it():
    cursor = LogCursor()
    cursor.open()
    assert cursor.take(b"2026-07-01T12:00:00.5+02:00 noon\n") == b"noon\n"
    assert cursor.open()["sinceTime"] == "2026-07-01T12:00:00+02:00"
