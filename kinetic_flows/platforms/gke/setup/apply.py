"""Making things as wanted, and removing them, stage by stage.

An error in one resource lets the others of its stage finish; the stages behind it are not begun.
Whatever stops it, the same command goes on from there: everything is compared anew.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.clients.retry import Transient, insist
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.platforms.gke.setup.failures import Failure, failed
from kinetic_flows.platforms.gke.setup.model import Resource, Stage, State, Step, Tell, Watch

THREADS = 8
"""How many resources of a stage are worked on at a time."""

API_PAUSES_SECONDS = (2.0, 4.0, 8.0, 15.0, 20.0, 30.0, 30.0)
"""Before asking again an API that was turned on just now and says that it is off: that takes up to
some minutes to be known everywhere.
https://cloud.google.com/apis/docs/troubleshooting
"""

Work = Callable[[Resource, Tell], None]


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long is waited for Google to know what it was told just now.

    Attributes:
        api_pauses_seconds: Before an API is asked again that was turned on just now.
    """

    api_pauses_seconds: tuple[float, ...] = API_PAUSES_SECONDS


def apply_all(stages: Sequence[Stage], watch: Watch, *, patience: Patience | None = None) -> int:
    """Make everything as wanted, stage by stage.

    Args:
        stages: What is to be done, as `compare.needed` says; whole stages do as well.
        watch: Told of each step.
        patience: How long to wait for what was just changed; None for the usual.

    Returns:
        How many resources were worked on.

    Raises:
        KineticError: Something could not be made as wanted: what was done, what failed and why.
    """
    pauses = (patience or Patience()).api_pauses_seconds
    work = partial(_apply, pauses)
    return _work_through(stages, watch, work, "could not be made as wanted")


def remove_all(stages: Sequence[Stage], watch: Watch) -> int:
    """Remove everything, in the order given.

    Args:
        stages: What is to be removed, as `compare.needed` says of `compare.plan_removal`.
        watch: Told of each step.

    Returns:
        How many resources were removed.

    Raises:
        KineticError: Something could not be removed: what was done, what failed and why.
    """
    return _work_through(stages, watch, _remove, "could not be removed")


def _work_through(stages: Sequence[Stage], watch: Watch, work: Work, verb: str) -> int:
    done = 0
    watcher = _Watcher(watch)
    for stage in stages:
        found = in_threads(partial(watcher.work_on, work), stage.resources, threads=THREADS)
        failures = [failure for failure in found if failure is not None]
        done += len(stage.resources) - len(failures)
        if failures:
            raise failed(verb, failures, done=done)
    return done


def _apply(pauses_seconds: Sequence[float], resource: Resource, tell: Tell) -> None:
    def attempt() -> None:
        try:
            resource.apply(tell)
        except CloudRefusal as error:
            if error.reason != "api-off":
                raise
            tell("its API is being turned on")
            raise Transient(error) from error

    insist(attempt, pauses_seconds)


def _remove(resource: Resource, tell: Tell) -> None:
    resource.remove(tell)


class _Watcher:
    """Tells the steps of work in several threads, one at a time.

    Args:
        watch: Whom to tell.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._lock = threading.Lock()

    def work_on(self, work: Work, resource: Resource) -> Failure | None:
        """Do the work on a resource, and return what it failed with."""
        begun = time.monotonic()
        tell = partial(self._tell, resource, begun)
        tell("begun", "")
        try:
            work(resource, lambda text: tell("going", text))
        except KineticError as error:
            tell("failed", error.message)
            return Failure(kind=resource.kind, name=resource.name, error=error)
        tell("done", "")
        return None

    def _tell(self, resource: Resource, begun: float, state: State, text: str) -> None:
        step = Step(
            kind=resource.kind,
            name=resource.name,
            state=state,
            text=text,
            seconds=time.monotonic() - begun,
        )
        with self._lock:
            self._watch(step)
