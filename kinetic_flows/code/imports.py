"""Which imports of a source are certain to be executed, told from its text alone. Pure.

An import under `try`, `if` (also `if TYPE_CHECKING`), `with`, a loop or in a function that may
never be called is the project's own business: nothing follows from it. Nor does anything from one
that comes after what may have made more importable: a change of `sys.path`, an installation.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

_INSTALLER = re.compile(r"\b(?:pip3?|uv|conda)\b")
_SEARCH_PATHS = frozenset({("sys", "path"), ("sys", "meta_path"), ("site", "addsitedir")})


class Imported(NamedTuple):
    """One module that an import statement names.

    Attributes:
        module: Its dotted name, without leading dots; empty for `from . import x`.
        level: How many dots lead a relative import; 0 for an absolute one.
        names: What `from … import` names of it; empty for a plain import.
    """

    module: str
    level: int = 0
    names: tuple[str, ...] = ()


def parse(source: bytes) -> ast.Module | None:
    """Return a source's syntax tree; None when it is no Python that this Python reads."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the person's own source
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def module_imports(tree: ast.Module) -> list[Imported]:
    """Return what is imported whenever a module is, in order.

    Args:
        tree: The module.
    """
    return list(_imports_of(_until(tree.body, _makes_more_importable)))


def function_imports(tree: ast.Module, qualname: str) -> list[Imported]:
    """Return what a function imports whenever it is called, before it does anything else.

    Args:
        tree: The module that defines it.
        qualname: Its qualified name; one that is not found imports nothing.
    """
    found = _find(tree.body, qualname.split("."))
    if not isinstance(found, _Function):
        return []
    return list(_imports_of(_until(found.body, _does_something)))


def all_imports(tree: ast.Module) -> frozenset[str]:
    """Return the first names of all modules that a source imports absolutely, anywhere.

    Args:
        tree: The module.
    """
    statements = (node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom))
    return frozenset(
        item.module.partition(".")[0] for item in _imports_of(statements) if not item.level
    )


def _imports_of(body: Iterable[ast.AST]) -> Iterator[Imported]:
    for node in body:
        if isinstance(node, ast.Import):
            yield from (Imported(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            yield Imported(node.module or "", node.level, names)


def _until(body: Iterable[ast.stmt], is_end: Callable[[ast.AST], bool]) -> Iterator[ast.stmt]:
    """Yield statements up to the first that has something of a kind in it."""
    for node in body:
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_executed = not is_text and not isinstance(node, _Definition)
        if is_executed and any(map(is_end, ast.walk(node))):
            return
        yield node


def _makes_more_importable(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and _INSTALLER.search(node.value) is not None
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
        return False
    return (node.value.id, node.attr) in _SEARCH_PATHS


def _does_something(node: ast.AST) -> bool:
    does = isinstance(node, ast.Call | ast.Return | ast.Raise | ast.Await | ast.Yield)
    return does or _makes_more_importable(node)


def _find(body: Iterable[ast.stmt], path: list[str]) -> _Definition | None:
    """Return the definition of a dotted name; None when there is none, or several."""
    matching = [node for node in body if isinstance(node, _Definition) and node.name == path[0]]
    if len(matching) != 1:
        return None
    if len(path) == 1:
        return matching[0]
    return _find(matching[0].body, path[1:]) if isinstance(matching[0], ast.ClassDef) else None
