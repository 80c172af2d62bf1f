"""Exceptions come back as they were, whatever their classes make of their arguments."""

from __future__ import annotations

import dataclasses
import pickle
import sys
import threading
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinetic_flows.runner_image.runner.raised import pickle_exception

from kinetic_flows.code.unpickling import load_raised


class Formatted(Exception):
    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"{code} at {where}")
        self.code, self.where = code, where


class KeywordOnly(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__("keyword only")
        self.code = code


class Http(OSError):
    def __init__(self, response: object) -> None:
        super().__init__(5, "bad answer", "/file")
        self.response = response


class Undecodable(UnicodeDecodeError):
    def __init__(self, path: str) -> None:
        super().__init__("utf-8", b"x", 0, 1, "bad")
        self.path = path


class OwnNew(Exception):
    def __new__(cls, a: int, b: int) -> OwnNew:
        return super().__new__(cls, a)

    def __init__(self, a: int, b: int) -> None:
        self.a, self.b = a, b


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    a: int


class WrongReduce(Exception):
    def __reduce__(self) -> Any:
        return WrongReduce, (1, 2, 3), {"x": threading.Lock()}


class Group(ExceptionGroup[Exception]):
    extra: int

    def __new__(cls, message: str, errors: list[Exception], extra: int) -> Group:
        made = super().__new__(cls, message, errors)
        made.extra = extra
        return made


def sent(error: BaseException) -> BaseException:
    """Return an exception as it arrives."""
    arrived, missing = load_raised(pickle_exception(error))
    assert arrived is not None
    assert not missing
    return arrived


@pytest.mark.parametrize(
    "error",
    [
        Formatted(1, "here"),
        KeywordOnly(code=3),
        Http({"status": 500}),
        Undecodable("/p"),
        OwnNew(1, 2),
        Frozen(3),
        FileNotFoundError(2, "no such file", "f"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
        ImportError("no", name="n", path="p"),
        KeyError("k"),
        StopIteration(4),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_arrives_as_what_it_was(error: BaseException) -> None:
    arrived = sent(error)

    assert type(arrived) is type(error)
    assert (arrived.args, str(arrived)) == (error.args, str(error))
    assert vars(arrived) == vars(error)
    assert getattr(arrived, "errno", None) == getattr(error, "errno", None)


def test_a_group_keeps_its_members_and_its_own_attributes() -> None:
    arrived = sent(Group("several", [Formatted(1, "a"), ExceptionGroup("in", [Http(None)])], 9))

    assert isinstance(arrived, Group)
    assert (arrived.message, arrived.extra) == ("several", 9)
    first, inner = arrived.exceptions
    assert (first.code, first.where) == (1, "a")  # type: ignore[attr-defined]
    assert isinstance(inner, ExceptionGroup)
    assert isinstance(inner.exceptions[0], Http)


def test_causes_contexts_and_notes_arrive_at_every_depth() -> None:
    outer, middle, inner = RuntimeError("outer"), Formatted(1, "m"), KeywordOnly(code=2)
    outer.__cause__, middle.__context__ = middle, inner
    outer.add_note("look inside")
    arrived = sent(outer)

    assert arrived.__notes__ == ["look inside"]
    assert isinstance(arrived.__cause__, Formatted)
    assert isinstance(arrived.__cause__.__context__, KeywordOnly)


def test_one_that_says_wrongly_how_it_is_pickled_is_made_without_its_word() -> None:
    error = WrongReduce("why")
    error.x = threading.Lock()  # type: ignore[attr-defined]
    arrived = sent(error)

    assert isinstance(arrived, WrongReduce)
    assert arrived.args == ("why",)
    assert "did not come along from the run: .x" in arrived.__notes__[0]


def test_a_class_that_is_not_here_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("only_there")
    there = type("There", (Exception,), {"__module__": "only_there"})
    module.There = there  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "only_there", module)
    outer = ValueError("outer")
    outer.__cause__ = there("inner", 5)
    data, alone = pickle_exception(outer), pickle_exception(there("alone"))
    monkeypatch.delitem(sys.modules, "only_there")

    arrived, missing = load_raised(data)
    assert isinstance(arrived, ValueError)
    assert missing == ("only_there.There",)
    assert type(arrived.__cause__).__name__ == "There"
    assert arrived.__cause__ is not None
    assert arrived.__cause__.args == ("inner", 5)
    assert load_raised(alone) == (None, ())


_TREES = st.recursive(
    st.builds(ValueError, st.text(max_size=5))
    | st.builds(Formatted, st.integers(), st.text(max_size=5))
    | st.builds(KeyError, st.none()),
    lambda inner: st.builds(
        ExceptionGroup, st.text(min_size=1, max_size=3), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)


@given(_TREES, _TREES)
def test_any_tree_of_groups_with_any_cause_arrives_whole(
    error: Exception, cause: Exception
) -> None:
    error.__cause__ = cause
    arrived = sent(error)

    assert shape(arrived) == shape(error)
    assert arrived.__cause__ is not None
    assert shape(arrived.__cause__) == shape(cause)


def shape(error: BaseException) -> Any:
    """Return what an exception says, and its members say."""
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return type(error), str(error), [shape(member) for member in members]


def test_what_is_sent_can_be_read_without_anything_of_the_runner() -> None:
    for error in (Formatted(1, "x"), Http(None), Frozen(1)):
        assert b"runner" not in pickle_exception(error).replace(b"test_runner_raised", b"")
        assert type(pickle.loads(pickle_exception(error))) is type(error)
