"""The digest of everything a lock is made from, which is the lock's name in the store.

It is made of what the files mean, not of their text: comments, order and white space do not
change it. Credentials are not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from kinetic_flows.core.errors import DependencyError
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.dependencies.declaration import Declaration
from kinetic_flows.dependencies.lines import VARIABLE, Line, file_path, normalized
from kinetic_flows.dependencies.redaction import is_secret_name, without_credentials
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.trees import tree_digest
from kinetic_flows.dependencies.uv_settings import UvSettings

INPUTS_VERSION = 1

_FILE_URL = re.compile(r"file://\S+")


def inputs_digest(
    declared: Declaration,
    target: Target,
    *,
    settings: UvSettings,
    home: Path,
    environ: Mapping[str, str],
) -> Sha256:
    """Return the digest of what a lock is made from."""
    places = [_tree(path, home) for path in declared.local_packages]

    def lines(chosen: Iterable[Line]) -> list[str]:
        return [_line(line, environ) for line in chosen]

    options = [line for line in declared.lines if line.kind == "option"]
    requirements = [line for line in declared.lines if line.kind != "option"]
    return sha256_hex(
        canonical_json(
            {
                "version": INPUTS_VERSION,
                "target": _target(target),
                "requirements": sorted(set(lines(requirements))),
                "options": [_portable(text) for text in lines(options)],
                "constraints": sorted(set(lines(declared.constraints))),
                "local": sorted(places),
                "links": [_links(line, home) for line in options],
                "lock": _lock_file(declared.lock_file),
                "selection": [declared.selection.extras, declared.selection.groups],
                "uv": settings.identity(),
            }
        )
    )


def _target(target: Target) -> dict[str, object]:
    # Named only where there is a choice, so that other locks keep their names.
    choice = {"otherwise": _target(target.otherwise)} if target.otherwise else {}
    return {
        **choice,
        "python": target.python,
        "platform": target.platform,
        "category": target.category,
        "base": target.base_identity,
        "constraints": sorted(target.constraints),
        "preferences": sorted(target.preferences),
        "runtime": sorted(target.runtime),
        "keep": target.keep_accelerator_packages,
    }


def _line(line: Line, environ: Mapping[str, str]) -> str:
    """Return a line as everybody has it: no credential, and no place on this machine."""
    text = without_credentials(normalized(line))
    text = VARIABLE.sub(lambda match: _value(match[1], environ), text)
    if line.path is not None:
        text = _FILE_URL.sub("file:", text).replace(str(line.path), "file:")
    index = without_credentials(str(line.index.get("url"))) if line.index else ""
    kept = "kept" if line.kept else ""
    return " ".join(filter(None, [text, *sorted(line.hashes), index, kept]))


def _portable(option: str) -> str:
    """Return an option without a place on this machine: its content counts, not its address."""
    flag, _, value = option.partition(" ")
    return flag if value.startswith(("/", "file:")) else option


def _value(variable: str, environ: Mapping[str, str]) -> str:
    """Return a variable's value, unless its name says that it is a secret."""
    if is_secret_name(variable):
        return f"${{{variable}}}"
    return without_credentials(environ.get(variable, ""))


def _links(line: Line, home: Path) -> str:
    """Return the digest of a directory of links; empty where a line names none."""
    flag, _, value = line.text.partition(" ")
    if flag not in ("-f", "--find-links"):
        return ""
    directory = Path(file_path(value))
    return _tree(directory, home) if directory.is_dir() else ""


def _tree(path: Path, home: Path) -> Sha256:
    try:
        return tree_digest(path, home=home)
    except OSError as error:
        raise DependencyError(
            f"{error.filename or path} cannot be read: {error.strerror}",
            value=str(path),
            hint="check its permissions; if it is being written, try again",
        ) from error


def _lock_file(path: Path | None) -> list[str]:
    if path is None:
        return []
    return [path.name, sha256_hex(path.read_bytes().replace(b"\r\n", b"\n"))]
