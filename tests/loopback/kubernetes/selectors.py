"""Label and field selectors.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Matches = Callable[[Mapping[str, Any]], bool]

_REQUIREMENT = re.compile(r"(?:[^,(]|\([^)]*\))+")
_SET_BASED = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")
_EQUALITY = re.compile(r"([^!=\s]+)\s*(!=|==|=)\s*(\S*)")


def label_selector(text: str) -> Matches:
    """Read a label selector; empty selects everything."""
    requirements = [_label_requirement(part.strip()) for part in _REQUIREMENT.findall(text)]

    def matches(item: Mapping[str, Any]) -> bool:
        labels = item["metadata"].get("labels") or {}
        return all(holds(labels) for holds in requirements)

    return matches


def field_selector(text: str) -> Matches:
    """Read a field selector, such as `metadata.name=x,status.phase!=Running`."""
    found = [_EQUALITY.fullmatch(part.strip()) for part in text.split(",") if part.strip()]
    wanted = [(m[1].split("."), m[2], m[3]) for m in found if m]

    def matches(item: Mapping[str, Any]) -> bool:
        return all((_field(item, path) == value) is (op != "!=") for path, op, value in wanted)

    return matches


def _label_requirement(text: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET_BASED.fullmatch(text):
        key, operator, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        return lambda labels: (labels.get(key) in values) is (operator == "in")
    if found := _EQUALITY.fullmatch(text):
        key, operator, value = found.groups()
        return lambda labels: (labels.get(key) == value) is (operator != "!=")
    if text.startswith("!"):
        return lambda labels: text[1:] not in labels
    return lambda labels: text in labels


def _field(item: Mapping[str, Any], path: list[str]) -> Any:
    found: Any = item
    for key in path:
        found = (found or {}).get(key)
    return found or ""
