"""Making a process what the function would find on the client: path, variables, `__main__`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any

from .contract import EXIT_TERMINATED
from .jax_hosts import complete_jax_calls
from .keras_backend import choose_keras_backend
from .main_module import add_sources, install_main
from .missing_modules import is_there

_PR_SET_PDEATHSIG = 1
_INSTALLED = frozenset({"site-packages", "dist-packages"})


def settle_in(task: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
    """Make this process what the function would find on the client."""
    import faulthandler

    faulthandler.enable(all_threads=False)
    os.environ.update(secrets)
    os.environ.update(task["variables"])
    _set_path(task)
    choose_keras_backend(os.environ)
    complete_jax_calls(os.environ)
    if task["compiled"]:
        from .compile_watch import watch_jax

        watch_jax(task["compiled"])
    place = os.path.join(task["workspace"], task["working_directory"])
    os.makedirs(place, exist_ok=True)
    os.chdir(place)
    sys.argv = [task["name"]]


def make_main(task: Mapping[str, Any], payload: Mapping[str, Any]) -> None:
    """Make `__main__` what it was on the client."""
    script = task["entry_module_file"]
    file = os.path.join(task["workspace"], script) if script else None
    install_main(file, task["entry_module_name"])
    add_sources(payload["sources"])


def _set_path(task: Mapping[str, Any]) -> None:
    """Make the project's code and packages importable, here and in processes started from here."""
    archive = sys.path.pop(0)
    own, late = _folders(task, "sys_path"), _folders(task, "late_sys_path")
    if task["distributions"]:
        # The code that runs is the shipped one, whatever the environment has under its name.
        own.append(task["distributions"])
    sys.path[:0] = own
    if task["packages"]:
        # Processes that are started read no `.pth` files there: they get what those added.
        own += _add_packages(task["packages"])
        os.environ["PATH"] = os.pathsep.join([task["scripts"], os.environ.get("PATH", "")])
    sys.path += late
    # Of started processes' import path only the front can be set.
    own += [folder for folder in late if not _hides_standard_library(folder)]
    if not is_there("kinetic"):
        own.append(os.path.join(archive, "stubs"))
        sys.path.append(own[-1])
    own += filter(None, [os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join(own)


def _folders(task: Mapping[str, Any], which: str) -> list[str]:
    return [os.path.normpath(os.path.join(task["workspace"], item)) for item in task[which]]


def _hides_standard_library(folder: str) -> bool:
    """Whether a directory in front of the standard library would hide a module of it."""
    try:
        names = {name.partition(".")[0] for name in os.listdir(folder)}
    except OSError:
        return False
    standard: frozenset[str] = getattr(sys, "stdlib_module_names", frozenset())  # since Python 3.10
    return not names.isdisjoint(standard)


def _add_packages(directory: str) -> list[str]:
    """Put packages before the image's own, their `.pth` files included; return what was added."""
    import site

    before = len(sys.path)
    site.addsitedir(directory)
    added = sys.path[before:]
    del sys.path[before:]
    images = [os.path.basename(entry) in _INSTALLED for entry in sys.path]
    position = images.index(True) if True in images else before
    sys.path[position:position] = added
    return added


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends; see prctl(2)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(EXIT_TERMINATED)
