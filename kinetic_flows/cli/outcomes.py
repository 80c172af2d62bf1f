"""What becomes of a run that a command waits for: its output, its value, its error."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any

from kinetic_flows.cli.documents import error_document, plain, print_json
from kinetic_flows.core.api_boundary import ApiBoundary
from kinetic_flows.core.display import value_for_output
from kinetic_flows.core.errors import KineticError, RunFailed
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.core.signals import heeded_signals, interruption_in
from kinetic_flows.core.terminal import shown_call, terminal_progress
from kinetic_flows.runs.leaving import run_goes_on, tell_left, told_if_left
from kinetic_flows.runs.results import unpack_result
from kinetic_flows.runs.session import own_session
from kinetic_flows.runs.wait import wait_for_run

if TYPE_CHECKING:
    from kinetic_flows.api.run import Run


def print_launched(run: Run[Any], *, as_json: bool) -> None:
    """Print a run's id and where to watch it."""
    if as_json:
        print_json({"id": run.id, "url": run.url})
    else:
        print(f"{run.id}\n{run.url}")


def print_value(run: Run[Any], *, as_json: bool, ends_with_us: bool = False) -> None:
    """Wait for a run, show what it prints, and print its value.

    Args:
        run: The run.
        as_json: Print a JSON object, and show what the run prints on standard error.
        ends_with_us: Whether an interruption cancels the run, as that of a call; else it goes on,
            and that is said.

    Raises:
        KineticError: It ended without a value.
    """
    told = {"id": run.id, "url": run.url}
    with errors_told(as_json=as_json, **told), output_aside() if as_json else nullcontext():
        value = outcome(lambda: _awaited(run, ends_with_us=ends_with_us))
    if as_json:
        print_json({**told, "result": plain(value)})
    elif value is not None:
        print(value_for_output(value))


def _awaited(run: Run[Any], *, ends_with_us: bool) -> Any:
    environ = process_environment()
    progress = terminal_progress(load_settings(environ).progress, environ)
    left = _cancelled_if_left(run) if ends_with_us else told_if_left(run_goes_on(run.id, run.name))
    with left, shown_call(progress, run.name), own_session(progress) as session:
        return unpack_result(wait_for_run(run.ticket, session, progress), run.ticket, url=run.url)


@contextmanager
def _cancelled_if_left(run: Run[Any]) -> Iterator[None]:
    with heeded_signals():
        try:
            yield
        except BaseException as error:
            if interruption_in(error) is not None:
                run.cancel()
                tell_left(f"run {run.id} of {run.name} was cancelled")
            raise


@contextmanager
def output_aside() -> Iterator[None]:
    """Have what is printed to standard output go to standard error."""
    with redirect_stdout(sys.stderr):
        yield


@contextmanager
def errors_told(*, as_json: bool, **told: Any) -> Iterator[None]:
    """Print the document of an error that passes.

    Args:
        as_json: Whether a document is wanted.
        **told: What else is known, such as the run's id.
    """
    try:
        yield
    except KineticError as error:
        if as_json:
            print_json(error_document(error, **told))
        raise


def outcome(result: Callable[[], Any]) -> Any:
    """Return a run's value; say of what the function raised only what the person wrote.

    Raises:
        RunFailed: The function raised.
    """
    boundary = ApiBoundary()
    try:
        with boundary:
            return result()
    except KineticError:
        raise
    except Exception as error:
        if not boundary.let_out_the_functions:
            raise
        what = f"{type(error).__name__}: {error}"
        shown = "".join(traceback.format_exception(error))
        raise RunFailed(f"the function raised {what}", remote_traceback=shown) from error
