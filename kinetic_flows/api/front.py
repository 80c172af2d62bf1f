"""Calling, submitting, mapping and deploying remote functions, before Prefect is imported.

That import takes a second and more, so what a call does is shown from before it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from kinetic_flows.code.call_names import call_name
from kinetic_flows.code.project_settings import local_settings
from kinetic_flows.code.root import source_directory, working_directory
from kinetic_flows.core.display import counted
from kinetic_flows.core.functions import flow_name
from kinetic_flows.core.home import usable_home
from kinetic_flows.core.options import Unsaid
from kinetic_flows.core.progress import Outcome, Progress
from kinetic_flows.core.settings.accelerator_names import names_in, names_in_words
from kinetic_flows.core.settings.settings import Settings, load_settings, process_environment
from kinetic_flows.core.signals import heeded_signals
from kinetic_flows.core.terminal import shown_call, terminal_progress

if TYPE_CHECKING:
    from kinetic_flows.api.deployment import Deployment
    from kinetic_flows.api.rehearsal import Rehearsal
    from kinetic_flows.api.remote_function import RemoteFunction
    from kinetic_flows.api.run import Run
    from kinetic_flows.api.run_group import RunGroup
    from kinetic_flows.plans.inputs import Inputs, SweepOptions

STEP_IMPORT = "import-prefect"


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What a call begins with.

    Attributes:
        environ: This process's variables, as they were when it was made.
        settings: What they alone decide.
        progress: Who watches.
        what: What is called, as it is shown; empty where that is nothing to be shown.
    """

    environ: Mapping[str, str]
    settings: Settings
    progress: Progress
    what: str = ""

    def begin(self, accelerator: str) -> None:
        """Show that the call goes on, and what on."""
        if self.what:
            self.progress.begin(f"{self.what} on {accelerator}")


def open_call(what: str = "") -> Opening:
    """Read this process's variables, and decide by them who watches.

    Args:
        what: What is called, as it is shown.
    """
    environ = process_environment()
    settings = load_settings(environ)
    progress = terminal_progress(settings.progress, environ)
    return Opening(environ=environ, settings=settings, progress=progress, what=what)


def call(remote: RemoteFunction[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Run a function to its end, and return its value or raise what it raised."""
    with _shown(remote, _called(remote, args, kwargs), "done") as opening:
        return _calls(opening).call(opening, remote, args, kwargs)


def submit(
    remote: RemoteFunction[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Run[Any]:
    """Launch a function, and return the handle of its run."""
    with _shown(remote, _called(remote, args, kwargs), "launched") as opening:
        made: Run[Any] = _calls(opening).submit(opening, remote, args, kwargs)
        return made


def start_map(
    remote: RemoteFunction[..., Any],
    bound: tuple[Any, ...],
    inputs: Inputs,
    options: SweepOptions,
    *,
    return_exceptions: bool,
) -> RunGroup[Any]:
    """Launch a function for many inputs, and return their handle; see `calls.start_map`."""
    count = "" if inputs.count is None else counted(inputs.count, "input")
    with _shown(remote, f"{_name(remote)}.map({count})", "launched") as opening:
        group: RunGroup[Any] = _calls(opening).start_map(
            opening, remote, bound, inputs, options, return_exceptions=return_exceptions
        )
        return group


def deploy(
    remote: RemoteFunction[..., Any], bound: tuple[Any, ...], *, name: str, **wanted: Any
) -> Deployment[Any]:
    """Make a deployment of a function; see `calls.deploy`."""
    with _shown(remote, f"{_name(remote)}/{name}", "done") as opening:
        made: Deployment[Any] = _calls(opening).deploy(opening, remote, bound, name=name, **wanted)
        return made


def rehearse(remote: RemoteFunction[..., Any], accelerators: Sequence[str] | None) -> Rehearsal:
    """Compile a function's steps for accelerators that are not there; see `rehearsing.rehearse`."""
    named = names_in_words(tuple(accelerators)) if accelerators else ""
    made: list[Rehearsal] = []

    def outcome() -> Outcome:
        return "done" if made[0].fits else "negative"

    with _shown(remote, f"rehearsal of {_name(remote)}", outcome, named or None) as opening:
        rehearsing = _with_prefect(opening, "kinetic_flows.api.rehearsing")
        made.append(rehearsing.rehearse(opening, remote, accelerators))
    return made[0]


@contextmanager
def _shown(
    remote: RemoteFunction[..., Any],
    what: str,
    outcome: Outcome | Callable[[], Outcome],
    accelerator: str | None = None,
) -> Iterator[Opening]:
    """Show what is done within the block as a call.

    Args:
        remote: The function.
        what: What is called, as it is shown.
        outcome: How it ends with the block, or what says so then.
        accelerator: What it runs on, in words; None for what the function says.
    """
    with usable_home(), heeded_signals():
        opening = open_call(what)
        accelerator = accelerator or _accelerator(remote, opening)
        with shown_call(opening.progress, f"{what} on {accelerator}", outcome):
            yield opening


def _accelerator(remote: RemoteFunction[..., Any], opening: Opening) -> str:
    """Return what a function runs on, as far as nobody has to be asked."""
    if not isinstance(remote.options.accelerator, Unsaid):
        return remote.options.accelerator_words
    directory = source_directory(remote.fn, working_directory())
    return names_in_words(names_in(local_settings(opening.environ, directory).accelerator))


def _calls(opening: Opening) -> Any:
    """Import what calls need of Prefect."""
    return _with_prefect(opening, "kinetic_flows.api.calls")


def _with_prefect(opening: Opening, module: str) -> Any:
    """Import what needs Prefect."""
    opening.progress.step(STEP_IMPORT, "started")
    try:
        return import_module(module)
    finally:
        opening.progress.step(STEP_IMPORT, "passed")


def _name(remote: RemoteFunction[..., Any]) -> str:
    return flow_name(remote.fn, remote.options.name)


def _called(
    remote: RemoteFunction[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    return call_name(_name(remote), remote.fn, args, kwargs)
