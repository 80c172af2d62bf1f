"""The name of a deployment's run, which Prefect names at random when a schedule makes it.

It is the name that a client would have given it: `kinetic_flows/code/call_names.py`, with which
`tests/unit/test_contract.py` holds this together.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

NAME_CHARACTERS = 60
VALUE_CHARACTERS = range(NAME_CHARACTERS, 15, -1)

FLOAT_CHARACTERS = 10

_MADE_UP = re.compile("[a-z]+(-[a-z]+)+")
"""What Prefect names runs that nobody has named (`prefect.utilities.names`, 3.8.8)."""
_SECRET_NAME = re.compile(r"passw(or)?d|passphrase|secret|api_?key|credential|(^|_)token$", re.I)
_ORDERS = re.compile(
    r"[\r\n\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def is_made_up(name: str) -> bool:
    """Whether a run's name tells nothing."""
    return bool(_MADE_UP.fullmatch(name))


def run_name(function: str, parameters: Mapping[str, Any]) -> str:
    """Return what a run is called.

    Args:
        function: The function's name.
        parameters: JSON values by name.
    """
    function = _shortened(_on_one_line(function), NAME_CHARACTERS - 2)
    room = NAME_CHARACTERS - len(function) - 2
    texts = [(name, _text(name, value)) for name, value in parameters.items()][:NAME_CHARACTERS]
    shown = []
    for limit in VALUE_CHARACTERS:
        shown = [f"{_label(name)}{_shortened(text, limit)}" for name, text in texts]
        if len(", ".join(shown)) <= room:
            return f"{function}({', '.join(shown)})"
    for count in range(len(shown) - 1, 0, -1):
        text = ", ".join([*shown[:count], "…"])
        if len(text) <= room:
            return f"{function}({text})"
    return f"{function}({'…' if room else ''})"


def _label(name: str) -> str:
    return "" if name.startswith("[") else f"{_on_one_line(name)}="


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxlong = self.maxother = 200
        self.maxlevel = 4

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        hidden = {
            key: _Masked() if _is_secret(str(key), value) else value
            for key, value in list(x.items())[: self.maxdict + 1]
        }
        return super().repr_dict(hidden, level)


class _Masked:
    def __repr__(self) -> str:
        return "***"


_SHORT = _ShortRepr()


def _is_secret(name: str, value: Any) -> bool:
    return isinstance(value, str) and bool(_SECRET_NAME.search(name))


def _text(name: str, value: Any) -> str:
    if type(value) is float and len(repr(value)) > FLOAT_CHARACTERS:
        return f"{value:.6g}"
    text = "***" if _is_secret(name, value) else _SHORT.repr(value)
    text = text if len(text) <= 500 else text[:499] + "…"
    return _on_one_line(text)


def _on_one_line(text: str) -> str:
    written_out = _ORDERS.sub(lambda order: order[0].encode("unicode_escape").decode(), text)
    return " ".join(written_out.split())


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"
