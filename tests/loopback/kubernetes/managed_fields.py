"""Who set which fields of an object: what server-side apply merges by, and refuses for.

https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from loopback.kubernetes.errors import ApiError

Path = tuple[str, ...]
"""Steps as the API server writes them: `.spec`, `[name="server"]`."""

_NAMED = ("containers", "initContainers", "volumes", "env", "imagePullSecrets", "secrets")
_KEYS = {
    **dict.fromkeys(_NAMED, ("name",)),
    "volumeMounts": ("mountPath",),
    "conditions": ("type",),
    "ownerReferences": ("uid",),
}
"""By which fields the items of lists are told apart; any other list is one value."""

_IDENTITY = (".apiVersion", ".kind", ".status")
_GIVEN = tuple(
    f".{name}"
    for name in (
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "managedFields",
        "deletionTimestamp",
    )
)


@dataclass
class Owners:
    """The managers of one object's fields.

    Attributes:
        applied: Paths by the managers that applied them.
        updated: Paths by the managers that changed them in another way.
    """

    applied: dict[str, set[Path]] = field(default_factory=dict)
    updated: dict[str, set[Path]] = field(default_factory=dict)

    def note_update(self, before: Mapping[str, Any], after: Mapping[str, Any], who: str) -> None:
        """Take note of what somebody changed without applying it."""
        old, new = dict(leaves(before)), dict(leaves(after))
        changed = {path for path, value in new.items() if old.get(path, _NOTHING) != value}
        for paths in (*self.applied.values(), *self.updated.values()):
            paths -= changed | (old.keys() - new.keys())
        if changed:
            self.updated.setdefault(who, set()).update(changed)

    def apply(
        self, live: Mapping[str, Any], wanted: Mapping[str, Any], who: str, *, force: bool
    ) -> dict[str, Any]:
        """Return an object with what somebody applies merged into it, and take note of it.

        Raises:
            ApiError: Another has set one of the fields to something else.
        """
        new, now = dict(leaves(wanted)), dict(leaves(live))
        conflicts = [
            (owner, path)
            for owner, path in self._others(who)
            if path in new and now.get(path, _NOTHING) != new[path]
        ]
        if conflicts and not force:
            raise _conflict(conflicts, str(live.get("apiVersion")))
        for owner, path in conflicts:
            for known in (self.applied, self.updated):
                known.get(owner, set()).discard(path)
        merged = copy.deepcopy(dict(live))
        shared = {path for _, path in self._others(who)}
        for path in self.applied.get(who, set()) - new.keys() - shared:
            _remove(merged, path)
        _merge(merged, wanted)
        self.applied[who] = set(new)
        return merged

    def entries(self, api_version: str) -> list[dict[str, Any]]:
        """Return what stands in the object's metadata."""
        return [
            {
                "manager": who,
                "operation": operation,
                "apiVersion": api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": _fields(paths),
            }
            for operation, managers in (("Apply", self.applied), ("Update", self.updated))
            for who, paths in managers.items()
            if paths
        ]

    def _others(self, who: str) -> list[tuple[str, Path]]:
        applied = [(o, p) for o, paths in self.applied.items() if o != who for p in paths]
        return applied + [(o, p) for o, paths in self.updated.items() for p in paths]


_NOTHING = object()


def leaves(item: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """Yield an object's values with their paths, without what the API server gives it."""
    for path, value in _leaves(item, ()):
        if (
            not path
            or path[0] in _IDENTITY
            or (path[0] == ".metadata" and path[1:2] and path[1] in _GIVEN)
        ):
            continue
        yield path, value


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, f".{name}"))
    elif isinstance(value, list) and value and _keys(path, value):
        for each in value:
            yield from _leaves(each, (*path, _key(path, value, each)))
    else:
        yield path, value


def _keys(path: Path, items: list[Any]) -> tuple[str, ...]:
    name = path[-1].removeprefix(".")
    if name == "ports" and isinstance(items[0], dict):
        if "containerPort" in items[0]:
            return ("containerPort", "protocol")
        return ("port", "protocol") if path == (".spec", ".ports") else ()
    return _KEYS.get(name, ())


def _key(path: Path, items: list[Any], item: Mapping[str, Any]) -> str:
    given = {"protocol": "TCP", **item}
    names = sorted(_keys(path, items))
    return "[" + ",".join(f"{name}={json.dumps(given[name])}" for name in names) + "]"


def _merge(live: dict[str, Any], wanted: Mapping[str, Any], path: Path = ()) -> None:
    for name, value in wanted.items():
        here = (*path, f".{name}")
        if isinstance(value, dict) and isinstance(live.get(name), dict):
            _merge(live[name], value, here)
        elif isinstance(value, list) and value and _keys(here, value) and live.get(name):
            _merge_list(live[name], value, here)
        else:
            live[name] = copy.deepcopy(value)


def _merge_list(live: list[Any], wanted: list[Any], path: Path) -> None:
    known = {_key(path, live, item): item for item in live}
    for item in wanted:
        key = _key(path, wanted, item)
        if key in known:
            _merge(known[key], item, (*path, key))
        else:
            live.append(copy.deepcopy(item))


def _remove(item: Any, path: Path) -> None:
    """Take a value out, and what is empty without it."""
    step, rest = path[0], path[1:]
    if step.startswith("."):
        name = step[1:]
        if name not in item:
            return
        if rest:
            _remove_from(item[name], (step,), rest)
        if not rest or item[name] in ({}, []):
            del item[name]


def _remove_from(inner: Any, before: Path, path: Path) -> None:
    if not isinstance(inner, list):
        _remove(inner, path)
        return
    found = next((each for each in inner if _key(before, inner, each) == path[0]), None)
    if found is None:
        return
    if path[1:]:
        _remove(found, path[1:])
    names = _keys(before, inner)
    if not set(found) - set(names):
        inner.remove(found)


def _fields(paths: set[Path]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(paths):
        place = found
        for step in path:
            place = place.setdefault(f"f:{step[1:]}" if step[0] == "." else f"k:{step}", {})
    return found


def _conflict(conflicts: list[tuple[str, Path]], api_version: str) -> ApiError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{owner}" using {api_version}',
            "field": "".join(path),
        }
        for owner, path in sorted(conflicts)
    ]
    count = f"{len(causes)} conflict" + ("s" if len(causes) > 1 else "")
    said = "; ".join(f"{each['message']}: {each['field']}" for each in causes)
    return ApiError(
        409, f"Apply failed with {count}: {said}", reason="Conflict", details={"causes": causes}
    )
