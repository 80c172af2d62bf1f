"""Which names of a script hold paths that follow from where the script lies.

In a run they have to follow from where the shipped script lies, as those of an imported module
do: `DATA = Path(__file__).parent / "data"`. An attribute of a class is called `Class.name`, the
default of a parameter `function(name)`.
"""

from __future__ import annotations

import ast
import tokenize
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path


def file_derived_names(script: Path) -> frozenset[str]:
    """Return the names whose values a script computes from its own `__file__`.

    Args:
        script: The script; one that cannot be read or parsed has none.
    """
    try:
        stat = script.stat()
    except OSError:
        return frozenset()
    return _derived_names(script, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _derived_names(script: Path, _mtime_ns: int, _size_bytes: int) -> frozenset[str]:
    try:
        with tokenize.open(script) as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    derived = {"__file__"}
    for targets, value in _assignments(tree):
        if derived & _names(value):
            derived |= targets
    return frozenset(derived - {"__file__"})


def _assignments(tree: ast.Module) -> Iterator[tuple[set[str], ast.AST]]:
    """Yield what binds names at module level, in order: the names, and what they depend on."""
    waiting: list[ast.AST] = [*reversed(tree.body)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield {node.name}, node
            yield from _members(node, node.name)
            continue
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.NamedExpr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if node.value is not None:
                yield set().union(*map(_names, targets)), node.value
        waiting.extend(reversed([*ast.iter_child_nodes(node)]))


def _members(node: ast.AST, qualname: str) -> Iterator[tuple[set[str], ast.AST]]:
    """Yield a class's attributes, and the defaults of a function's parameters."""
    if isinstance(node, ast.ClassDef):
        for item in node.body:
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _members(item, f"{qualname}.{item.name}")
            elif isinstance(item, ast.Assign | ast.AnnAssign) and item.value is not None:
                targets = item.targets if isinstance(item, ast.Assign) else [item.target]
                names = set().union(*map(_names, targets))
                yield {f"{qualname}.{name}" for name in names}, item.value
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        given = node.args
        positional = [*given.posonlyargs, *given.args]
        late = positional[len(positional) - len(given.defaults) :]
        for parameter, value in (
            *zip(late, given.defaults, strict=True),
            *_keyword_defaults(given),
        ):
            yield {f"{qualname}({parameter.arg})"}, value


def _keyword_defaults(given: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr]]:
    for parameter, value in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        if value is not None:
            yield parameter, value


def _names(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
