"""Ids of runs as a list shows them, and what is made of what people type."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetic_flows.core.errors import RunNotFoundError
from kinetic_flows.core.run_ids import completed, short_id, short_ids

MINUTE = 0x019A1234_0000
"""The time that ids of one minute begin with, in milliseconds."""


@st.composite
def timed_ids(draw: st.DrawFn) -> str:
    """Return a UUIDv7 of a certain minute."""
    moment = MINUTE + draw(st.integers(0, 60_000))
    high, low = draw(st.integers(0, (1 << 12) - 1)), draw(st.integers(0, (1 << 62) - 1))
    return str(uuid.UUID(int=moment << 80 | 7 << 76 | high << 64 | 2 << 62 | low))


ids = st.lists(timed_ids() | st.uuids(version=4).map(str), unique=True, min_size=1, max_size=30)


@given(ids)
def test_what_a_list_shows_of_an_id_is_enough_to_name_it(run_ids):
    shown = short_ids(run_ids)
    assert len(set(shown)) == len(run_ids)
    known = dict.fromkeys(run_ids, "train, Running")
    for short, run_id in zip(shown, run_ids, strict=True):
        assert run_id.startswith(short) or run_id.endswith(short)
        assert completed(short, known) == run_id
        assert completed(short.replace("-", "").upper(), known) == run_id


def test_ids_of_one_minute_are_told_apart_even_from_those_that_are_not_listed():
    """Prefect makes the ids of scheduled runs by time: they begin alike."""
    listed, other = (f"019a1234-5678-7abc-9def-0123456789{end}" for end in ("ab", "cd"))
    assert short_ids([listed]) == ["456789ab"]
    assert completed("456789ab", {listed: "", other: ""}) == listed


def test_an_id_of_its_own_is_shown_short():
    assert short_id("0f0e6d3a-1a2b-4c3d-8e4f-5a6b7c8d9e0f") == "0f0e6d3a"
    assert short_id("no id") == "no id"


def test_a_beginning_of_several_ids_says_which_and_with_what_they_go_on():
    known = {
        "019a1234-5678-7abc-9def-0123456789ab": "train, Running",
        "019a1234-5678-7abc-9def-0123456789ac": "train, Failed",
        "0f0e6d3a-1a2b-4c3d-8e4f-5a6b7c8d9e0f": "other, Completed",
    }
    with pytest.raises(RunNotFoundError, match="2 runs have an id that starts or ends") as caught:
        completed("019a1234", known)
    hint = caught.value.hint or ""
    assert "456789ab (train, Running)" in hint
    assert "456789ac (train, Failed)" in hint
    assert "other" not in hint


@pytest.mark.parametrize("text", ["", "-", "zzz"])
def test_a_beginning_of_none_says_where_ids_are_listed(text):
    with pytest.raises(RunNotFoundError, match="no run's id starts or ends") as caught:
        completed(text, {"0f0e6d3a-1a2b-4c3d-8e4f-5a6b7c8d9e0f": "train, Running"})
    assert "kinetic runs ls" in (caught.value.hint or "")


def test_a_beginning_of_no_groups_id_is_said_to_be_that() -> None:
    with pytest.raises(RunNotFoundError, match="no group's id starts or ends with 'zzz'"):
        completed("zzz", {}, what="group")
