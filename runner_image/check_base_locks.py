"""Judge the locks of the base images: `python runner_image/check_base_locks.py`.

A lock can resolve and be wrong all the same: a resolver that finds no wheel for the newest
release takes, without a word, whatever older one has a wheel. No index is asked: what the locks
hold is compared with one another, with what `refresh_base_locks.py` noted of the releases, and
with what each accelerator asks of the packages that talk to it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from kinetic_flows.core.accelerators import Category, list_accelerators
from kinetic_flows.core.accelerators.packages import pins_of
from kinetic_flows.core.accelerators.runtime import RuntimeRequirement
from kinetic_flows.images.bases import base_lock_name, base_pythons

DIRECTORY = Path(__file__).parent / "base-locks"
CATEGORIES: tuple[Category, ...] = ("cpu", "gpu", "tpu")
OLDEST_DAYS = 183
"""How far a lock's jax may lie behind the newest release, when the locks are refreshed."""

Locks = Mapping[tuple[str, str], Mapping[str, str]]
"""Versions by package, of each category and Python."""


def read_locks(directory: Path = DIRECTORY) -> Locks:
    """Return the versions in every lock."""
    return {
        (category, python): {
            package: version
            for pin in pins_of((directory / base_lock_name(category, python)).read_text())
            for package, _, version in [pin.partition("==")]
        }
        for category in CATEGORIES
        for python in base_pythons()
    }


def problems(locks: Locks, releases: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the locks, a sentence each."""
    pythons = sorted({python for _, python in locks}, key=lambda text: int(text.split(".")[1]))
    for python in pythons:
        found = {category: locks[category, python]["jax"] for category in CATEGORIES}
        if len(set(found.values())) > 1:
            yield f"Python {python}: jax differs between the categories: {found}"
            continue
        yield from _release_problems(python, found["tpu"], locks["tpu", python], releases)
    for (category, python), versions in locks.items():
        yield from _unknown_chips(category, python, versions, releases)


def _release_problems(
    python: str, jax: str, tpu: Mapping[str, str], releases: Mapping[str, Any]
) -> Iterator[str]:
    """Yield what is wrong with one Python's jax."""
    known = releases["jax"].get(jax)
    if known is None:
        yield f"Python {python}: releases.json does not know jax {jax}: refresh the locks"
        return
    if not SpecifierSet(known["libtpu"]).contains(tpu["libtpu"]):
        yield (
            f"Python {python}: jax {jax} supports libtpu{known['libtpu']}, and the lock has "
            f"{tpu['libtpu']}"
        )
    newest = releases["newest"]
    age = date.fromisoformat(releases["jax"][newest]["released"]) - date.fromisoformat(
        known["released"]
    )
    if age.days > OLDEST_DAYS:
        yield f"Python {python}: jax {jax} is {age.days} days older than {newest}, the newest"


def _unknown_chips(
    category: str, python: str, versions: Mapping[str, str], releases: Mapping[str, Any]
) -> Iterator[str]:
    """Yield the accelerators that a base does not know, and cannot be made to know."""
    for accelerator in list_accelerators():
        if accelerator.category != category:
            continue
        for need in accelerator.runtime:
            version = versions.get(need.package)
            allowed = releases["jax"].get(versions["jax"], {}).get(need.package)
            if not (need.is_met_by(version) or _can_move(need, allowed, releases)):
                yield (
                    f"Python {python}: {accelerator} needs {need.package}{need.versions}, and the "
                    f"{category} lock has {version}"
                )


def _can_move(need: RuntimeRequirement, allowed: str | None, releases: Mapping[str, Any]) -> bool:
    """Whether a project's image can have a release that knows the chip, and that jax allows."""
    wanted = SpecifierSet(f"{need.versions},{allowed}") if allowed else None
    known = releases["others"].get(need.package, ())
    return wanted is not None and any(wanted.contains(version) for version in known)


def main() -> int:
    """Print what is wrong."""
    releases = json.loads((DIRECTORY / "releases.json").read_text())
    found = list(problems(read_locks(), releases))
    for line in found:
        print(f"base locks: {line}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
