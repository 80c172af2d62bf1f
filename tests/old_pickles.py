"""What is in a pickle, as plain JSON values; which of this product's names it has."""

from __future__ import annotations

import json
import pickletools
from dataclasses import asdict, is_dataclass
from functools import partial
from typing import Any

from kinetic import RemoteFunction


def described(value: Any) -> Any:
    """Return what is in an object, and nothing of how it is kept there."""
    if isinstance(value, tuple):
        return [described(each) for each in value]
    if isinstance(value, partial):
        return _plain(value.args)
    if isinstance(value, RemoteFunction):
        return {"options": _plain(value.options), "pickles as": _plain(value.__reduce__())}
    state = value if is_dataclass(value) else _public(vars(value))
    text = {"text": str(value)} if isinstance(value, Exception) else {}
    return {"class": type(value).__name__.lstrip("_"), "state": _plain(state), **text}


def _public(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not name.startswith("_")}


def _plain(state: Any) -> Any:
    def otherwise(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        return getattr(value, "__qualname__", None) or described(value)

    return json.loads(json.dumps(state, default=otherwise))


def names_in(data: bytes) -> list[str]:
    """Return the names of this product's modules and what they have, as `module:name`."""
    texts: list[str] = []
    found: set[str] = set()
    memo: list[str] = []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("SHORT_BINUNICODE", "BINUNICODE"):
            texts.append(argument)
        elif opcode.name == "MEMOIZE":
            memo.append(texts[-1] if texts else "")
        elif opcode.name == "BINGET":
            texts.append(memo[argument])
        elif opcode.name == "STACK_GLOBAL":
            found.add(f"{texts[-2]}:{texts[-1]}")
            texts.append("")
    return sorted(name for name in found if name.startswith("kinetic"))
