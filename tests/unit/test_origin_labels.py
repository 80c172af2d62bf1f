"""Where a run's call came from is in its labels, and is read from them in words."""

from __future__ import annotations

import pytest

from kinetic_flows.code.origin import Commit, Origin
from kinetic_flows.runs.origin_labels import (
    as_of_now,
    origin_facts,
    origin_labels,
    origin_tags,
    without_user,
)

ORIGIN = Origin(
    user="ann",
    host="mill",
    client="0.1.0",
    entry="train.py",
    commit=Commit(id="3f2a1bc0d4" * 4, branch="main", is_dirty=True),
)


def test_what_is_told_is_read_in_words() -> None:
    labels = origin_labels(ORIGIN)
    assert labels["kinetic.git-dirty"] is True
    assert origin_facts(labels) == (
        ("called by", "ann@mill"),
        ("from", "train.py"),
        ("commit", "3f2a1bc0d4 on main, with changes"),
        ("client", "kinetic-flows 0.1.0"),
    )
    assert origin_tags(ORIGIN) == ("user:ann",)


@pytest.mark.parametrize("origin", [None, Origin(user="", host="", client="")])
def test_what_is_not_known_is_not_told(origin: Origin | None) -> None:
    assert origin_labels(origin) == {}
    assert origin_tags(origin) == ()
    assert origin_facts({}) == ()


def test_a_run_without_changes_says_nothing_of_them() -> None:
    clean = Origin(user="ann", host="", client="", commit=Commit(id="ab" * 20, is_dirty=False))
    assert origin_facts(origin_labels(clean)) == (
        ("called by", "ann"),
        ("commit", "ababababab"),
    )


def test_a_run_that_repeats_another_has_its_code_and_who_repeats_it() -> None:
    labels = as_of_now(origin_labels(ORIGIN), is_told=True)
    assert labels["kinetic.git-commit"] == "3f2a1bc0d4" * 4
    assert labels["kinetic.entry-file"] == "train.py"
    assert labels["kinetic.client-version"] != "0.1.0"
    untold = as_of_now(origin_labels(ORIGIN), is_told=False)
    assert not {"kinetic.user", "kinetic.host"} & untold.keys()
    assert without_user(("kinetic", "user:ann", "mine")) == ("kinetic", "mine")
