"""A work pool's template against the one that ships: what differs, and whose difference it is.

A template that was installed carries a mark: a digest of what it was then, and the defaults that
its variables had. So an administrator's edit is told from what an older version shipped.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kinetic_flows.core.settings.pool_variables import template_defaults

MARK = "kinetic_flows"
"""Key of the mark, beside `job_configuration` and `variables`, which are all that Prefect reads."""

LONGEST_VALUE = 60
AROUND = 20
"""How much of a long value is shown before and after the first thing that differs."""


def marked(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template with its mark, as it is installed."""
    bare = without_mark(template)
    mark = {"shape": _shape(bare), "defaults": template_defaults(bare)}
    return {**copy.deepcopy(bare), MARK: copy.deepcopy(mark)}


def without_mark(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template without its mark."""
    return {name: value for name, value in template.items() if name != MARK}


def is_as_shipped(known: Mapping[str, Any]) -> bool:
    """Whether nothing but defaults was changed in a template since it was installed.

    Args:
        known: A work pool's template; one without a mark counts as changed.
    """
    return (known.get(MARK) or {}).get("shape") == _shape(without_mark(known))


def with_kept_defaults(template: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template with the defaults that an administrator set.

    Those are the ones that are not what was installed; of a template that carries no mark, those
    that this template leaves open.

    Args:
        template: The template that ships.
        known: The work pool's template as it is.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(template))
    mark = known.get(MARK)
    now = template_defaults(known)
    installed = (mark or {}).get("defaults") or {}
    earlier = (known.get("variables") or {}).get("properties") or {}
    for name, variable in merged["variables"]["properties"].items():
        if mark is None:
            if "default" not in variable and name in now:
                variable["default"] = now[name]
        elif name in earlier and now.get(name) != installed.get(name):
            variable.pop("default", None)
            variable |= {"default": now[name]} if name in now else {}
    return merged


def template_changes(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield a line for each place at which two templates differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            place = f"{path}.{key}" if path else str(key)
            if key not in old:
                yield f"{place}: added {_short(new[key])}"
            elif key not in new:
                yield f"{place}: removed {_short(old[key])}"
            else:
                yield from template_changes(old[key], new[key], place)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list_changes(old, new, path)
    elif old != new or isinstance(old, bool) is not isinstance(new, bool):
        before, after = _two_sides(repr(old), repr(new))
        yield f"{path}: {before} is now {after}"


def _list_changes(old: Sequence[Any], new: Sequence[Any], path: str) -> Iterator[str]:
    """Compare two lists item by item; named items, such as containers, by their names."""
    before, after = _by_name(old), _by_name(new)
    for key in before:
        if key not in after:
            yield f"{path}[{key}]: removed {_short(before[key])}"
        else:
            yield from template_changes(before[key], after[key], f"{path}[{key}]")
    for key in after:
        if key not in before:
            yield f"{path}[{key}]: added {_short(after[key])}"


def _by_name(items: Sequence[Any]) -> dict[str, Any]:
    names = [name for item in items if (name := _name_of(item))]
    if len(names) == len(items) == len(set(names)):
        return dict(zip(names, items, strict=True))
    return {str(index): item for index, item in enumerate(items)}


def _name_of(item: Any) -> str:
    """Return what an item is known by: its name, or the variable that it is the place of."""
    if isinstance(item, Mapping):
        return str(item.get("name") or "")
    return item if isinstance(item, str) and item.startswith("{{") else ""


def _two_sides(old: str, new: str) -> tuple[str, str]:
    """Shorten two texts to where they begin to differ, so that they never look the same."""
    if max(len(old), len(new)) <= LONGEST_VALUE:
        return old, new
    pairs = enumerate(zip(old, new, strict=False))
    first = next((index for index, (a, b) in pairs if a != b), min(len(old), len(new)))
    return _window(old, first), _window(new, first)


def _window(text: str, first: int) -> str:
    begin, end = max(first - AROUND, 0), first + 2 * AROUND
    cut = "..." if end < len(text) else ""
    return ("..." if begin else "") + text[begin:end] + cut


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def _shape(template: Mapping[str, Any]) -> str:
    """Return the digest of a template but for the defaults of its variables."""
    bare = copy.deepcopy(dict(template))
    for each in ((bare.get("variables") or {}).get("properties") or {}).values():
        each.pop("default", None)
    return hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()
