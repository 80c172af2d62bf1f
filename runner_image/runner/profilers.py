"""What can tell where a function's time goes: the profiler of jax, or that of torch.

Both are looked for among what the function's process has imported: nothing is imported for them.
jax is taken when it has its devices. Before that, to start its profiler would give it some, and
`jax.distributed.initialize()` would come too late.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

PYTHON_SECONDS = 10.0
"""Up to which length Python's calls are in a trace of jax: they are most of it."""

NOTHING = "the function has imported neither jax nor torch, whose profilers are used"
NOT_YET = "jax has used no device yet: try again when it computes"
TAKEN = "jax is taking one already, for profile=True or for the function itself"


class JaxProfiler:
    """Traces what jax and its devices do, as XProf and Perfetto read it.

    See https://docs.jax.dev/en/latest/profiling.html.
    """

    tool = "jax"

    def __init__(self, jax: Any) -> None:
        self._jax = jax

    def start(self, directory: str, seconds: float) -> None:
        """Begin; one trace can be taken at a time.

        Args:
            directory: Where the trace goes.
            seconds: How long it will be at most.
        """
        profiler, options = self._jax.profiler, {}
        if hasattr(profiler, "ProfileOptions"):  # since jax 0.7
            wanted = profiler.ProfileOptions()
            wanted.python_tracer_level = 1 if seconds <= PYTHON_SECONDS else 0
            options["profiler_options"] = wanted
        try:
            profiler.start_trace(directory, **options)
        except RuntimeError as error:
            raise RuntimeError(TAKEN if "already" in str(error) else str(error)) from error

    def stop(self) -> None:
        """Write the trace."""
        self._jax.profiler.stop_trace()


class TorchProfiler:
    """Traces what torch and its devices do, as Perfetto reads it.

    See https://docs.pytorch.org/docs/stable/profiler.html.
    """

    tool = "torch"

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._directory = ""
        self._profile: Any = None

    def start(self, directory: str, seconds: float) -> None:  # noqa: ARG002 - as jax's has it
        """Begin; to be ended in the same thread."""
        profiler = self._torch.profiler
        activities = [profiler.ProfilerActivity.CPU]
        if self._torch.cuda.is_available():
            activities.append(profiler.ProfilerActivity.CUDA)
        self._directory = directory
        self._profile = profiler.profile(activities=activities, **_of_all_threads(self._torch))
        self._profile.start()

    def stop(self) -> None:
        """Write the trace."""
        self._profile.stop()
        os.makedirs(self._directory, exist_ok=True)
        self._profile.export_chrome_trace(os.path.join(self._directory, "pt.trace.json.gz"))


def find_profiler() -> tuple[JaxProfiler | TorchProfiler | None, str]:
    """Return the profiler of what the function uses; or why there is none."""
    jax, torch = sys.modules.get("jax"), sys.modules.get("torch")
    if hasattr(jax, "profiler") and _has_devices():
        return JaxProfiler(jax), ""
    # Either may be on the way of being imported, by another thread.
    if hasattr(torch, "profiler") and hasattr(torch, "cuda"):
        return TorchProfiler(torch), ""
    return None, NOT_YET if jax else NOTHING


def trace_files(directory: str) -> Iterator[tuple[str, str]]:
    """Yield the files of a trace: the path, and what its name ends in, whoever's host it is of."""
    for place, _, names in sorted(os.walk(directory)):
        for name in sorted(names):
            for end in ("xplane.pb", "pt.trace.json.gz", "trace.json.gz"):
                if name.endswith(end):
                    yield os.path.join(place, name), end
                    break


def _has_devices() -> bool:
    """Whether jax has its devices; True where this version of it does not tell."""
    bridge = sys.modules.get("jax._src.xla_bridge")
    tell = getattr(bridge, "backends_are_initialized", None)
    return bool(tell()) if tell else True


def _of_all_threads(torch: Any) -> dict[str, Any]:
    """Return what has torch look at all threads; else it sees the one that starts it."""
    try:
        config = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)  # noqa: SLF001 - there is no public name for it
    except (AttributeError, TypeError):
        return {}
    return {"experimental_config": config}
