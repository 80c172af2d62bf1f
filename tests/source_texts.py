"""What stands in the product's own files: its strings, and what is called with which constants."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parent.parent
PRODUCT = ("kinetic", "kinetic_flows", "blocks", "deployments", "runner_image")


@cache
def nodes() -> Mapping[type, list[Any]]:
    """Return the product's expressions by their kind."""
    found: dict[type, list[Any]] = {ast.Expr: [], ast.Constant: [], ast.Call: []}
    for path in (path for part in PRODUCT for path in (CHECKOUT / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if type(node) in found:
                found[type(node)].append(node)
    return found


def calls(name: str) -> Iterator[ast.Call]:
    """Yield the calls of functions whose name ends so."""
    return (call for call in nodes()[ast.Call] if _called(call).endswith(name))


def said(calls: Iterator[ast.Call], keyword: str) -> set[str]:
    """Return what stands behind a keyword of some calls."""
    return {
        str(each.value.value)
        for call in calls
        for each in call.keywords
        if each.arg == keyword and isinstance(each.value, ast.Constant)
    }


@cache
def texts() -> tuple[str, ...]:
    """Return what the product's strings say; docstrings say it to readers only."""
    comments = {id(node.value) for node in nodes()[ast.Expr]}
    strings = [
        node.value
        for node in nodes()[ast.Constant]
        if isinstance(node.value, str) and id(node) not in comments
    ]
    others = [
        path.read_text()
        for part in PRODUCT
        for path in (CHECKOUT / part).rglob("*")
        if path.is_file()
        and path.suffix not in (".py", ".pyc")
        and path.parent.name != "base-locks"
    ]
    return (*strings, *others)


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", None) or getattr(call.func, "id", "")
