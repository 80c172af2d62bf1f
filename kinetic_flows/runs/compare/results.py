"""What two runs came to, as short texts: nothing is unpickled."""

from __future__ import annotations

import ast
from typing import Any

from kinetic_flows.code.reprs import MAX_REPR_CHARACTERS
from kinetic_flows.runs.compare.numbers import Fields
from kinetic_flows.runs.compare.subject import Subject
from kinetic_flows.runs.results import failure_summary, value_summary

LEVELS = 3


def result_fields(subject: Subject) -> Fields:
    """Return what came of a run: its state, and what it returned, a mapping by its keys.

    A value is known by the short text that its run made of it.
    """
    header, state = subject.header, str(subject.told["state"])
    if header is None:
        message = str(subject.told["message"]).partition("\n")[0].strip()
        # The state of a run that ended well says what it returned, if its result has expired.
        text = message.removeprefix("returned ").partition(": ")[2] or message
        found = _literal(text) if state == "Completed" else None
        return {"state": state, **({"": message} if found is None else _flat("", found))}
    if header.status != "returned":
        return {"state": state, "error": failure_summary(header).partition("\n")[0]}
    value = _literal(header.message)
    if value is None:
        return {"state": state, "": value_summary(header).removeprefix("returned ")}
    return {"state": state, **_flat("", value)}


def _literal(text: str) -> Any:
    """Return the number or mapping that a short text spells; None for what is none, or was cut."""
    if len(text) >= MAX_REPR_CHARACTERS or "..." in text:
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, dict | int | float) else None


def _flat(name: str, value: Any, levels: int = LEVELS) -> dict[str, str]:
    """Return a value's fields, such as `eval.loss`, those of mappings within mappings, too."""
    if not isinstance(value, dict) or not levels or not value:
        return {name: repr(value)}
    flat: dict[str, str] = {}
    for key, each in value.items():
        flat |= _flat(f"{name}.{key}" if name else str(key), each, levels - 1)
    return flat
