"""`jax.distributed.initialize()` without arguments, where JAX itself could not know them.

JAX asks its surroundings who the processes of a run are: Slurm, MPI, and TPUs on Google Cloud tell
(https://docs.jax.dev/en/latest/multi_process.html). On CPUs and GPUs of a Kubernetes cluster it
would ask the cluster, with a package and rights that a run need not have. The run knows: so it
completes the call, unless that says something itself. A run on one host is a group of one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from .hosts import HOST_VARIABLE, HOSTS_VARIABLE, is_on_tpu

MODULE = "jax.distributed"
COORDINATOR_VARIABLE = "JAX_COORDINATOR_ADDRESS"

_ASKED_FOR = ("num_processes", "process_id", "cluster_detection_method")


def complete_jax_calls(environ: Mapping[str, str]) -> None:
    """Have calls of `jax.distributed.initialize` completed once that is imported.

    Args:
        environ: The environment of this process.
    """
    if not is_on_tpu(environ):
        finder: Any = _Finder()
        sys.meta_path.insert(0, finder)


class _Finder:
    """Finds the one module as the others do, and changes it when it has been loaded.

    It is a meta path finder by its method (https://docs.python.org/3/library/importlib.html).
    """

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """Return the module's spec; None for any other module."""
        if fullname != MODULE:
            return None
        sys.meta_path[:] = [each for each in sys.meta_path if each is not self]
        found = (each.find_spec(fullname, path, target) for each in sys.meta_path)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and spec.loader is not None:
            _change(spec.loader)
        return spec


def _change(loader: Any) -> None:
    """Have a module's loader complete the calls of its `initialize`."""
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        execute(module)
        if hasattr(module, "initialize"):
            module.initialize = completed(module.initialize)

    loader.exec_module = exec_module


def completed(initialize: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that passes on its arguments, with those of the run where it has none.

    Args:
        initialize: `jax.distributed.initialize`.
    """
    import functools
    import inspect

    signature = inspect.signature(initialize)

    @functools.wraps(initialize)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind_partial(*args, **kwargs)
        said = (*_ASKED_FOR, "coordinator_address")
        if any(bound.arguments.get(name) is not None for name in said):
            return initialize(*args, **kwargs)
        known = _arguments(os.environ)
        bound.arguments.update(
            (name, known[name]) for name in known if name in signature.parameters
        )
        return initialize(*bound.args, **bound.kwargs)

    return call


def _arguments(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what is to be said of this run."""
    return {
        "coordinator_address": environ.get(COORDINATOR_VARIABLE) or f"localhost:{_free_port()}",
        "num_processes": int(environ.get(HOSTS_VARIABLE, "1")),
        "process_id": int(environ.get(HOST_VARIABLE, "0")),
        # There is nothing left to find out, and looking for it warns of missing packages.
        "cluster_detection_method": "deactivate",
    }


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])
