"""Whether a set of packages has a module; where that cannot be told, that it may.

What is installed here tells which package has which modules; of packages that are not, only
well-known ones are known. A wheel's own list is no help: a lock is made without wheels.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from typing import TypeAlias

from packaging.utils import canonicalize_name

from kinetic_flows.dependencies.import_names import modules_of, packages_with

IN_EVERY_IMAGE = frozenset({"pip", "setuptools", "wheel", "pkg_resources", "distutils"})
"""Modules of Python's own packages, which images have or have not."""

SHARED = frozenset(
    {"google", "azure", "zope", "sphinxcontrib", "backports", "nvidia", "jax_plugins"}
)
"""Namespaces that many packages share: which of them has what is inside is not looked into."""

_COMMON_WORDS = frozenset(
    {"api", "client", "core", "cpu", "gpu", "headless", "lib", "nightly", "py", "python", "sdk"}
)
_SHORTEST_WORD = 3


Listing: TypeAlias = Mapping[str, Sequence[str]]
"""Names of packages, by the first names of their modules."""


class Installed:
    """The distributions that are installed in this Python.

    Args:
        read: Returns it; takes long, and is called when it is needed.
    """

    def __init__(self, read: Callable[[], Listing] = packages_distributions) -> None:
        self._read = read

    @cached_property
    def packages(self) -> Mapping[str, frozenset[str]]:
        """Names of packages, by the first names of their modules."""
        return {
            module: frozenset(canonicalize_name(name) for name in names)
            for module, names in self._read().items()
        }

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all packages."""
        return frozenset().union(*self.packages.values())

    def has_own(self, module: str) -> bool:
        """Whether a module is found here without being any package's."""
        if module in self.packages:
            return False
        if module in sys.modules:
            return True
        try:
            return find_spec(module) is not None
        except (ImportError, ValueError, AttributeError):
            return False


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A module that no package has.

    Attributes:
        module: Its first name.
        package: The package that has it; None when it is not known.
    """

    module: str
    package: str | None


class Environment:
    """The packages that a run finds installed.

    Args:
        packages: The names of the packages.
        installed: What is installed here.
    """

    def __init__(self, packages: Iterable[str], installed: Installed) -> None:
        self._packages = frozenset(canonicalize_name(name) for name in packages)
        self._installed = installed

    def missing(self, module: str) -> Missing | None:
        """Return a module if it is certain that the environment lacks it.

        Args:
            module: Its first name.
        """
        if module in sys.stdlib_module_names or module in IN_EVERY_IMAGE | SHARED:
            return None
        having = {canonicalize_name(module), *packages_with(module)}
        if not self._packages.isdisjoint(having):
            return None
        here = self._installed.packages.get(module, frozenset())
        if not self._packages.isdisjoint(here) or self._installed.has_own(module):
            return None
        having = {*packages_with(module), *here}
        if self._may_have(module, having):
            return None
        return Missing(module=module, package=self._to_add(module))

    def _may_have(self, module: str, having: Iterable[str]) -> bool:
        """Whether a package of which the modules are not known may have a module."""
        unknown = [name for name in self._packages if not self._is_known(name)]
        if not having:
            return bool(unknown)
        words = {canonicalize_name(module), *having}
        return any(_related(name, word) for name in unknown for word in words)

    def _is_known(self, package: str) -> bool:
        return package in self._installed.names or modules_of(package) is not None

    def _to_add(self, module: str) -> str | None:
        """Return the package to add: what has the module here, else what is known to."""
        here = sorted(self._installed.packages.get(module, ()))
        return next(iter((*here, *packages_with(module))), None)


def _related(package: str, word: str) -> bool:
    """Whether the name of a package suggests that it stands in for another, or has a module."""
    own, other = package.replace("-", ""), word.replace("-", "")
    if min(len(own), len(other)) >= _SHORTEST_WORD and (own in other or other in own):
        return True
    return bool(_words(package) & _words(word))


def _words(name: str) -> frozenset[str]:
    words = frozenset(name.split("-")) - _COMMON_WORDS
    return frozenset(word for word in words if len(word) >= _SHORTEST_WORD)
