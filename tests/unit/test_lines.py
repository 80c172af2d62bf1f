"""Lines are the same, however their bytes are cut on the way."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kinetic_flows.core.lines import LineReader

TEXTS = st.text(alphabet=st.sampled_from("a\n\r é€😀"), max_size=40)


@given(TEXTS, st.lists(st.integers(0, 200), max_size=8))
def test_lines_do_not_depend_on_how_the_bytes_are_cut(text: str, cuts: list[int]) -> None:
    data, reader = text.encode(), LineReader()
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    lines = [
        line for start, end in itertools.pairwise(places) for line in reader.take(data[start:end])
    ]
    assert reader.position == len(data)
    whole = text.split("\n")
    assert lines + reader.end() == (whole if whole[-1] else whole[:-1])


def test_a_line_is_given_when_its_end_has_come() -> None:
    reader = LineReader()
    assert reader.take(b"one\ntw") == ["one"]
    assert reader.take(b"o") == []
    assert reader.take(b"\n\n") == ["two", ""]
    assert reader.end() == []


def test_bytes_that_are_no_text_are_replaced() -> None:
    reader = LineReader()
    assert reader.take(b"\xff\n\xe2\x82") == ["\ufffd"]
    assert reader.end() == ["\ufffd"]
