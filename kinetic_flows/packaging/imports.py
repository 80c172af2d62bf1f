"""Which imports of a source are certain to be executed, told from its text alone. Pure.

An import under `try`, `if` (also `if TYPE_CHECKING`), `with`, a loop or in a function that may
never be called is somebody's own business: nothing follows from it.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


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
    return list(_imports_of(tree.body))


def function_imports(tree: ast.Module, qualname: str) -> list[Imported]:
    """Return what a function imports whenever it is called.

    Args:
        tree: The module that defines it.
        qualname: Its qualified name; one that is not found imports nothing.
    """
    found = _find(tree.body, qualname.split("."))
    if not isinstance(found, _Function):
        return []
    return list(_imports_of(_until_it_may_end(found.body)))


def imports_used(tree: ast.Module, qualname: str) -> list[Imported]:
    """Return what a function of a script needs where the script itself is not executed.

    That is what it imports itself, and the imported names that it, and what of the script it
    uses, refer to.

    Args:
        tree: The script.
        qualname: The function's qualified name; one that is not found needs nothing.
    """
    bound = {name: item for item, names in _bindings(tree.body) for name in names}
    defined = {node.name: node for node in tree.body if isinstance(node, _Definition)}
    first = defined.get(qualname.partition(".")[0])
    if first is None:
        return []
    waiting: list[_Definition] = [first]
    seen, found = {first.name}, function_imports(tree, qualname)
    while waiting:
        for name in sorted(_names_used(waiting.pop())):
            if name in bound:
                found.append(bound[name])
            elif name in defined and name not in seen:
                seen.add(name)
                waiting.append(defined[name])
    return list(dict.fromkeys(found))


def _imports_of(body: Iterable[ast.stmt]) -> Iterator[Imported]:
    for imported, _ in _bindings(body):
        yield imported


def _bindings(body: Iterable[ast.stmt]) -> Iterator[tuple[Imported, tuple[str, ...]]]:
    """Yield the imports among statements, and the names that each binds."""
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                yield Imported(alias.name), (bound,)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            bound_names = tuple(alias.asname or alias.name for alias in node.names)
            yield Imported(node.module or "", node.level, names), bound_names


def _until_it_may_end(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that are executed for certain: up to the first way out."""
    for node in body:
        yield node
        if any(isinstance(each, ast.Return | ast.Raise) for each in ast.walk(node)):
            return


def _find(body: Iterable[ast.stmt], path: list[str]) -> _Definition | None:
    """Return the definition of a dotted name; None when there is none, or several."""
    matching = [node for node in body if isinstance(node, _Definition) and node.name == path[0]]
    if len(matching) != 1:
        return None
    if len(path) == 1:
        return matching[0]
    return _find(matching[0].body, path[1:]) if isinstance(matching[0], ast.ClassDef) else None


def _names_used(definition: _Definition) -> set[str]:
    """Return the names that a definition refers to when it is used, its own variables aside.

    Decorators, default values and annotations are evaluated here, not in the run.
    """
    if isinstance(definition, ast.ClassDef):
        names = set().union(*map(_names_in, definition.bases)) if definition.bases else set()
        functions = [node for node in definition.body if isinstance(node, _Function)]
        return names.union(*map(_names_used, functions))
    return set().union(*map(_names_in, definition.body)) - _own_names(definition)


def _names_in(node: ast.AST) -> set[str]:
    return {
        each.id
        for each in ast.walk(node)
        if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)
    }


def _own_names(function: _Function) -> set[str]:
    """Return the names that are, or may be, variables of a function or of what is in it."""
    arguments = {each.arg for each in ast.walk(function) if isinstance(each, ast.arg)}
    stored = {
        each.id
        for each in ast.walk(function)
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load)
    }
    inner = {
        name
        for each in ast.walk(function)
        if isinstance(each, ast.Import | ast.ImportFrom)
        for _, names in _bindings([each])
        for name in names
    }
    return arguments | stored | inner
