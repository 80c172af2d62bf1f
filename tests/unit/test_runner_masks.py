"""Keeping the values of secrets out of what a run says."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinetic_flows.runner_image.runner import masks
from kinetic_flows.runner_image.runner.engine import hide_in_states
from kinetic_flows.runner_image.runner.masked_exceptions import mask_exception
from kinetic_flows.runner_image.runner.masks import Masks
from prefect import states

TOKEN = "hf_AbC/+=%1234 xyz"
PEM = "-----BEGIN KEY-----\nMIIEvgIBADANBg\n  kqhkiG9w0BAQEF\nend\n-----END KEY-----\n"


def _fed(values: Sequence[str], *pieces: bytes) -> bytes:
    stream = Masks(values).follower()
    return b"".join(map(stream.feed, pieces)) + stream.flush(is_last=True)


@pytest.mark.parametrize(
    "shown",
    [
        TOKEN,
        f"Bearer {TOKEN}, and again {TOKEN}{TOKEN}",
        json.dumps({"token": TOKEN}),
        f"https://x/?key={quote(TOKEN, safe='')}",
        repr([TOKEN]),
        base64.b64encode(TOKEN.encode()).decode(),
        base64.urlsafe_b64encode(TOKEN.encode()).decode(),
        base64.b64encode(f"user:{TOKEN}".encode()).decode(),
        base64.b64encode(f"users:{TOKEN}:more".encode()).decode(),
    ],
)
def test_a_value_is_masked_however_it_is_written(shown: str) -> None:
    masked = Masks([TOKEN]).text(shown)
    assert "***" in masked
    for form in (TOKEN, quote(TOKEN, safe=""), base64.b64encode(TOKEN.encode()).decode()[4:-4]):
        assert form not in masked


def test_what_is_no_value_stays() -> None:
    told = Masks([TOKEN])
    for text in ("", "hf_AbC", "nothing of it", "\udcff half a file's name"):
        assert told.text(text) == text
    assert Masks([]).text(TOKEN) == TOKEN


def test_values_of_several_lines_are_masked_whole_and_line_by_line() -> None:
    assert Masks([PEM]).text(f"key: {PEM}") == "key: ***\n"
    shown = Masks([PEM]).text("\n".join(f"  > {line}" for line in PEM.splitlines()))
    assert "MIIEvg" not in shown
    assert "kqhkiG9w" not in shown
    assert "-----BEGIN KEY-----" in shown, "what every key has is no secret"
    assert "\\nMIIE" not in Masks([PEM]).text(json.dumps(PEM))


@pytest.mark.parametrize("value", ["", "1", "yes", " on \n"])
def test_short_values_are_left_alone(value: str) -> None:
    assert not Masks([value])
    assert Masks([value]).text("1 yes, it is on") == "1 yes, it is on"


def test_a_value_with_a_newline_at_its_end_is_masked_without_it() -> None:
    assert Masks(["secret\n"]).text("is secret.") == "is ***."


def test_of_values_that_begin_alike_the_longer_one_is_meant() -> None:
    assert Masks(["pass", "password"]).text("password pass") == "*** ***"
    letters = [bytes([letter]) for letter in b"password pass"]
    assert _fed(["pass", "password"], *letters) == b"*** ***"


def test_where_values_overlap_the_one_that_is_whole_first_is_masked() -> None:
    assert _fed(["xyab", "abcdef"], b"xyab", b"cd xya", b"b", b"abcd", b"ef") == b"***cd ******"
    assert _fed(["abab"], b"ababa", b"ba") == b"***aba"


@given(cuts=st.lists(st.integers(min_value=0, max_value=60)))
def test_a_value_is_masked_wherever_output_is_cut(cuts: list[int]) -> None:
    text = f"one {TOKEN} two hf_AbC three {TOKEN}{TOKEN[:7]}".encode()
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert _fed([TOKEN], *pieces) == f"one *** two hf_AbC three ***{TOKEN[:7]}".encode()


def test_only_what_may_become_a_value_is_held_back() -> None:
    stream = Masks([TOKEN]).follower()
    assert stream.feed(b"line\n") == b"line\n"
    assert stream.feed(b"it is hf_AbC/+") == b"it is "
    assert stream.flush() == b"", "something else is shown before the rest comes"
    assert stream.feed(b"=%1234 xyz.") == b"***."


def test_what_waits_for_long_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "HELD_SECONDS", -1.0)
    stream = Masks([TOKEN]).follower()
    assert stream.feed(b"it is hf_AbC/+") == b"it is "
    assert stream.flush() == b"hf_AbC/+"


def test_streams_hold_back_their_own_ends() -> None:
    both = Masks([TOKEN])
    one, two = both.follower(), both.follower()
    assert one.feed(TOKEN[:9].encode()) == b""
    assert two.feed(b"other\n") == b"other\n"
    assert one.feed(TOKEN[9:].encode()) == b"***"


def test_an_exception_of_which_not_all_can_be_looked_at_is_masked() -> None:
    class Closed(Exception):
        @property
        def reason(self) -> str:
            raise RuntimeError("closed")

    error = Closed(f"refused {TOKEN}")
    error.add_note(f"tried with {TOKEN}")
    mask_exception(error, Masks([TOKEN]))
    assert error.args == ("refused ***",)
    assert error.__notes__ == ["tried with ***"]


def test_what_prefects_engine_says_of_exceptions_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    # Put back afterwards.
    monkeypatch.setattr(states, "format_exception", states.format_exception)
    hide_in_states(Masks([TOKEN]))
    try:
        raise ValueError(f"refused {TOKEN}")
    except ValueError as error:
        failed = asyncio.run(states.exception_to_failed_state(error, message="it raised"))
    assert failed.message == "it raised ValueError: refused ***"
