"""Loading the function that FILE:FUNCTION names on the command line."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from kinetic_flows.api.remote_function import RemoteFunction
from kinetic_flows.code.root import working_directory
from kinetic_flows.core.errors import UsageError, suggest


def load_function(target: str) -> RemoteFunction[..., Any]:
    """Import a file under its module name and return one of its remote functions.

    Args:
        target: FILE:FUNCTION, such as `train.py:train`.

    Raises:
        UsageError: There is no such file or no such remote function in it.
    """
    file_name, _, function_name = target.rpartition(":")
    if not file_name or not function_name:
        raise UsageError(
            f"{target!r} does not say which function of which file",
            value=target,
            hint="write FILE:FUNCTION, such as train.py:train",
        )
    cwd = working_directory()
    path = (cwd / file_name).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(
            f"there is no Python file {file_name!r}",
            value=file_name,
            hint=f"the path is relative to {cwd}",
        )
    return _function(_import(path), function_name, file_name)


def _import(path: Path) -> Any:
    """Import a file as its program would import it: by its name within its packages."""
    parts, directory = [path.stem], path.parent
    while (directory / "__init__.py").exists():
        parts.insert(0, directory.name)
        directory = directory.parent
    sys.path.insert(0, str(directory))
    return import_module(".".join(parts))


def _function(module: Any, name: str, file_name: str) -> RemoteFunction[..., Any]:
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, RemoteFunction):
        return found
    remote = [key for key, value in vars(module).items() if isinstance(value, RemoteFunction)]
    what = "is not decorated with @kinetic.run" if found is not None else "does not exist"
    raise UsageError(
        f"{name!r} in {file_name} {what}",
        value=name,
        hint=suggest(name, remote) if remote else "decorate a function there with @kinetic.run",
    )
