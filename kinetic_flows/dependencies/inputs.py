"""The digest of everything a lock is made from, which is the lock's name in the store.

It is made of what the files mean, not of their text: comments, order and white space do not
change it. Credentials are not part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kinetic_flows.dependencies.declaration import Declaration
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.redaction import without_credentials
from kinetic_flows.dependencies.requirements_file import Line, normalized
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.job import Sha256, canonical_json, sha256_hex

INPUTS_VERSION = 1


def inputs_digest(
    declared: Declaration,
    source: DependencySource,
    target: Target,
    *,
    home: Path,
    environ: Mapping[str, str],
) -> Sha256:
    """Return the digest of what a lock is made from."""
    return sha256_hex(
        canonical_json(
            {
                "version": INPUTS_VERSION,
                "target": _target(target),
                "lines": sorted({_line(line) for line in declared.lines if line.kind != "option"}),
                "options": [_line(line) for line in declared.lines if line.kind == "option"],
                "constraints": sorted({_line(line) for line in declared.constraints}),
            }
        )
    )


def _target(target: Target) -> dict[str, object]:
    return {
        "python": target.python,
        "platform": target.platform,
        "category": target.category,
        "base": target.base_identity,
        "constraints": sorted(target.constraints),
        "preferences": sorted(target.preferences),
        "runtime": sorted(target.runtime),
        "keep": target.keep_accelerator_packages,
    }


def _line(line: Line) -> str:
    return " ".join([without_credentials(normalized(line)), *sorted(line.hashes)])
