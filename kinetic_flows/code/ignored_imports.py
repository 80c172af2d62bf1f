"""Modules of the project that are in use here and stay behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from kinetic_flows.code.ignore import IGNORE_FILE
from kinetic_flows.code.manifest import decode_manifest
from kinetic_flows.code.modules import is_installed, loaded_modules, module_file
from kinetic_flows.code.snapshot import CodeSnapshot
from kinetic_flows.core.files import printable

NAMED_MODULES = 5


def ignored_import_warnings(snapshot: CodeSnapshot) -> tuple[str, ...]:
    """Warn about modules that were imported here and that `.kineticignore` leaves out.

    Args:
        snapshot: What ships.

    Returns:
        One sentence, or nothing.
    """
    if not (snapshot.root / IGNORE_FILE).is_file():
        return ()
    loaded = dict(_loaded_modules(snapshot.root))
    if not loaded:
        return ()
    shipped = {entry.path for entry in decode_manifest(snapshot.manifest)}
    missing = sorted(name for name, path in loaded.items() if path not in shipped)
    if not missing:
        return ()
    named = ", ".join(printable(name) for name in missing[:NAMED_MODULES])
    more = f" and {len(missing) - NAMED_MODULES} more" if len(missing) > NAMED_MODULES else ""
    warning = (
        f"modules that were imported here do not ship, because of {IGNORE_FILE}: {named}{more};"
        " a run cannot import them"
    )
    return (warning,)


def _loaded_modules(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the name of each loaded module of the project, and its file relative to the root."""
    for name, module in loaded_modules().items():
        file = module_file(module) if isinstance(module, ModuleType) else None
        if name == "__main__" or file is None or is_installed(file):
            continue
        real = file.resolve()
        if real.is_relative_to(root):
            yield name, real.relative_to(root).as_posix()
