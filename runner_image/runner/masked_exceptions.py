"""Keeping the values of secrets out of an exception that goes back to its client.

Its texts are masked, not what its attributes are made of: a response or a connection in one of them
goes as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from .masks import Masks

_BUILT_IN_TEXTS = ("filename", "filename2", "strerror", "msg", "reason", "text", "name")


def mask_exception(error: BaseException, masks: Masks) -> None:
    """Mask the texts of an exception, of those that led to it and of those it groups."""
    if not masks:
        return
    for each in _related(error):
        with suppress(Exception):  # a class may have attributes that are not set like that
            _mask(each, masks)


def _related(error: BaseException) -> Iterator[BaseException]:
    waiting: list[Any] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]
        members = getattr(each, "exceptions", ())
        waiting += members if isinstance(members, tuple) else ()


def _mask(error: BaseException, masks: Masks) -> None:
    args = tuple(_masked(value, masks) for value in error.args)
    if args != error.args:
        error.args = args
    attributes = vars(error)
    for name, value in list(attributes.items()):
        attributes[name] = _masked(value, masks)
    # Last: a class may have properties of these names that raise, or that cannot be set.
    for name in _BUILT_IN_TEXTS:
        value = getattr(error, name, None)
        if type(value) is str and masks.text(value) != value:
            setattr(error, name, masks.text(value))


def _masked(value: Any, masks: Masks) -> Any:
    """Return a text, or what texts are in, masked; anything else as it is."""
    if type(value) is str:
        return masks.text(value)
    if type(value) in (list, tuple):
        return type(value)(_masked(each, masks) for each in value)
    if type(value) is dict:
        return {key: _masked(each, masks) for key, each in value.items()}
    return value
