"""A small cluster with a store, in which every step of everybody can be told to happen next.

Drivers are the real ones, each in a thread of its own that goes on only when it is told to: before
each thing that it asks of the store or of the cluster it waits for its turn, and there it may die.
The runners are as `runner_image/runner/candidates.py` has them: they claim, call, and end.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from kinetic_flows.core.artifact_store import ObjectInfo, StoredObject
from kinetic_flows.core.candidates import Candidate, Candidates, Claim, End, Launch
from kinetic_flows.core.errors import ObjectNotFoundError, RunCancelled, StoreError
from kinetic_flows.core.job import RunTicket, canonical_json, sha256_hex
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.core.object_names import (
    candidates_object,
    claim_object,
    result_object,
    round_end_object,
    round_object,
)
from kinetic_flows.runs.candidates.driver import Driver, Pauses
from kinetic_flows.runs.candidates.history import History
from kinetic_flows.runs.candidates.processes import CandidateRuns
from kinetic_flows.runs.candidates.rounds import Rounds

AT_ONCE = Pauses(read_seconds=0, idle_read_seconds=0, start_seconds=0, withdraw_seconds=0)
TURN_SECONDS = 30.0
HAS_POD = ("up", "claimed", "calling", "leaving")


class Died(BaseException):
    """A driver's process was killed."""


class Turn:
    """A thread that runs from one thing it asks of the world to the next, when it is told to."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._ours, self._theirs = threading.Semaphore(0), threading.Semaphore(0)
        self._dies = False
        self.is_over = False
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        self._theirs.acquire()
        try:
            self.result = work()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error
        self.is_over = True
        self._ours.release()

    def wait(self) -> None:
        """In the thread: wait until it may go on."""
        self._ours.release()
        self._theirs.acquire()
        if self._dies:
            raise Died

    def go_on(self) -> None:
        """Let the thread go on, until it asks for something again, or has ended."""
        self._theirs.release()
        assert self._ours.acquire(timeout=TURN_SECONDS)

    def die(self) -> None:
        """End the thread where it is."""
        self._dies = True
        while not self.is_over:
            self.go_on()


@dataclass
class JobHere:
    """A Job with its pod, and the runner in it.

    Attributes:
        phase: `pending`, `up`, `claimed`, `calling`, `leaving`, `failed`, `succeeded`, or `gone`.
        cause: Why it waits, or has failed.
        waited: For how long it has waited.
        is_deleting: Whether it was deleted and its pod has not ended yet.
    """

    launch: Launch
    phase: str = "pending"
    cause: str = ""
    waited: float = 0.0
    is_deleting: bool = False

    @property
    def lives(self) -> bool:
        return self.phase in ("pending", *HAS_POD)

    def seen(self) -> Observation:
        """Return it as a launcher tells of it."""
        if self.phase == "gone":
            return Observation(phase=Phase.GONE)
        if self.is_deleting:
            return Observation(phase=Phase.RUNNING, reason="the Job is being deleted")
        if self.phase == "pending":
            return Observation(
                phase=Phase.PENDING,
                cause=self.cause,
                reason=self.cause,
                is_lasting=self.cause == "no_node_pool",
                waited_seconds=self.waited,
            )
        if self.lives:
            return Observation(phase=Phase.RUNNING)
        phase = Phase.SUCCEEDED if self.phase == "succeeded" else Phase.FAILED
        return Observation(phase=phase, cause=self.cause, reason=self.cause or "it ended")


@dataclass
class World:
    """The store, the cluster, and all who do something in them."""

    candidates: Candidates
    objects: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, JobHere] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    calls: int = 0
    is_store_away: bool = False
    is_wanted: bool = True
    is_ended: bool = False
    moved_on: list[int] = field(default_factory=list)
    run_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        data = self.candidates.to_json()
        self.objects[candidates_object(self.run_id)] = data
        self.ticket = RunTicket(
            run_id=self.run_id, name="train", run_key="00" * 32, candidates=sha256_hex(data)
        )

    # What runners and the cluster do by themselves

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        """Return what may happen next, by name."""
        return [step for key in sorted(self.jobs) for step in self._steps_of(key, self.jobs[key])]

    def _steps_of(self, key: str, job: JobHere) -> Iterator[tuple[str, Callable[[], None]]]:
        if job.is_deleting:
            yield f"{job.launch} is gone", lambda: self._end(job, "gone")
        if job.phase == "pending" and not job.is_deleting:
            yield f"{job.launch} starts", lambda: self._set(job, phase="up", cause="")
            for cause in ("no_node_pool", "cloud_capacity"):
                yield f"{job.launch}: {cause}", lambda cause=cause: self._set(job, cause=cause)
            yield f"{job.launch} has waited", lambda: self._set(job, waited=1e6)
            yield f"{job.launch} fails", lambda: self._end(job, "failed", "image_pull")
        if job.phase in HAS_POD:
            yield from self._steps_of_pod(job)
        if job.phase in ("failed", "succeeded"):
            yield f"{job.launch} is removed", lambda: self._end(job, "gone")

    def _steps_of_pod(self, job: JobHere) -> Iterator[tuple[str, Callable[[], None]]]:
        if job.phase == "up":
            yield f"{job.launch} claims", lambda: self._claim(job)
        if job.phase == "claimed":
            yield f"{job.launch} calls", lambda: self._call(job)
        if job.phase == "calling":
            yield f"{job.launch} returns", lambda: self._return(job)
            yield f"{job.launch} raises", lambda: self._end(job, "failed", "failed")
            yield f"{job.launch} has no memory", lambda: self._end(job, "failed", "out_of_memory")
            if self._moves_on(job):
                yield f"{job.launch} moves on", lambda: self._move_on(job)
        if job.phase == "leaving":
            yield f"{job.launch} leaves", lambda: self._end(job, "succeeded")
        if not job.is_deleting:
            yield f"{job.launch} is preempted", lambda: self._end(job, "failed", "preempted")

    def _set(self, job: JobHere, **changes: Any) -> None:
        vars(job).update(changes)

    def _end(self, job: JobHere, phase: str, cause: str = "") -> None:
        job.phase, job.cause = ("gone" if job.is_deleting else phase), cause
        job.is_deleting = False

    def _claim(self, job: JobHere) -> None:
        name = claim_object(self.run_id, job.launch.round)
        claim = Claim(candidate=job.launch.candidate)
        self.objects.setdefault(name, canonical_json(asdict(claim)))
        begun = round_object(self.run_id, job.launch.round + 1) in self.objects
        if self.objects[name] != canonical_json(asdict(claim)) or begun:
            self._end(job, "failed", "failed")
        else:
            job.phase = "claimed"

    def _call(self, job: JobHere) -> None:
        job.phase = "calling"
        self.calls += 1
        at_once = [each for each in self.jobs.values() if each.phase == "calling"]
        assert len(at_once) == 1, "two call the function at once"
        assert result_object(self.run_id) not in self.objects, "it is called after it has returned"
        assert not self.is_ended, "it is called after somebody was told that the run has ended"

    def _return(self, job: JobHere) -> None:
        self.objects[result_object(self.run_id)] = b"42"
        job.phase = "leaving"

    def _moves_on(self, job: JobHere) -> bool:
        larger = self.candidates.larger_than(job.launch.candidate) is not None
        return self.candidates.on_oom is not None and larger

    def _move_on(self, job: JobHere) -> None:
        end = End(cause="out_of_memory", message="out of HBM")
        name = round_end_object(self.run_id, job.launch.round)
        self.objects.setdefault(name, canonical_json(asdict(end)))
        self.moved_on.append(job.launch.round)
        self._end(job, "failed", "failed")


class ADriver:
    """A client that drives the run, step by step.

    Args:
        world: Where it does so.
        sees_late: Whether what it is told of the cluster is old until it hears of it anew.
    """

    def __init__(self, world: World, *, sees_late: bool = False) -> None:
        self._world = world
        self._sees_late = sees_late
        self._snapshot: dict[str, Observation] = {}
        self._turn: Turn | None = None
        self.seen: Observation | None = None
        self.error: BaseException | None = None
        self.is_dead = False
        ticket = world.ticket
        rounds = Rounds(self, ticket.run_id)
        history = History(self, ticket.run_id, rounds)
        driver = Driver(ticket, self, rounds, _Starter(self), history, AT_ONCE)
        self._runs = CandidateRuns(ticket, self, rounds, driver, history)

    # Being told to go on

    def go_on(self, *, stops: bool = False) -> None:
        """Go on to the next thing it asks for; begin to look anew, or to stop, if it has done."""
        if self._turn is None:
            run_id = self._world.run_id
            work = self._runs.stop if stops else self._runs.observe
            arguments = (run_id, 0.0) if stops else (run_id, None)
            self._turn = Turn(lambda: work(*arguments))
        turn = self._turn
        turn.go_on()
        if turn.is_over:
            self._turn, self.error = None, turn.error
            if isinstance(turn.result, Observation):
                self.seen = turn.result
                self._world.is_ended |= turn.result.phase.is_final
            if turn.error is not None and not isinstance(turn.error, StoreError):
                raise turn.error

    def finish(self, *, stops: bool = False) -> None:
        """Go on until it has done one look, or has stopped the run."""
        if self._turn is not None:
            while self._turn is not None:
                self.go_on()
        self.go_on(stops=stops)
        while self._turn is not None:
            self.go_on()

    def die(self) -> None:
        """Be killed where it is."""
        self.is_dead = True
        if self._turn is not None:
            self._turn.die()

    def hear(self) -> None:
        """Hear what has happened in the cluster."""
        jobs = self._world.jobs
        self._snapshot = {key: job.seen() for key, job in jobs.items() if job.phase != "gone"}

    def _ask(self) -> None:
        if self._turn is not None:
            self._turn.wait()

    # The store

    uri = "memory:"

    def get(self, name: str) -> StoredObject:
        self._asked_of_store()
        if name not in self._world.objects:
            raise ObjectNotFoundError("nothing there", value=name)
        return StoredObject(data=self._world.objects[name], generation="1")

    def put_if_absent(self, name: str, data: Any) -> bool:
        self._asked_of_store()
        is_new = name not in self._world.objects
        self._world.objects.setdefault(name, bytes(data))
        return is_new

    def missing(self, names: Iterable[str]) -> set[str]:
        self._asked_of_store()
        return {name for name in names if name not in self._world.objects}

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        raise NotImplementedError

    def _asked_of_store(self) -> None:
        self._ask()
        if self._world.is_store_away:
            raise StoreError("the bucket does not answer")

    # The cluster

    def start(self, candidates: Candidates, launch: Launch) -> None:
        assert candidates == self._world.candidates
        self._ask()
        if not self._world.is_wanted:
            raise RunCancelled("the run is Cancelling")
        key = launch.key(self._world.run_id)
        known = self._world.jobs.get(key)
        if known is None or known.phase == "gone":
            known = self._world.jobs[key] = JobHere(launch=launch)
        self._snapshot[key] = known.seen()

    def observe(self, key: str, position: int | None = 0) -> Observation:
        self._ask()
        if not self._sees_late:
            self.hear()
        return self._snapshot.get(key, Observation(phase=Phase.GONE))

    def launches(self, run_id: str = "") -> tuple[str, ...]:
        self._ask()
        if not self._sees_late:
            self.hear()
        return tuple(key for key in self._snapshot if key.startswith(run_id))

    def discard(self, key: str) -> None:
        self._ask()
        job = self._world.jobs.get(key)
        if job is None or job.phase == "gone":
            return
        if job.phase in HAS_POD:
            job.is_deleting = True
        else:
            job.phase = "gone"

    def stop(self, key: str, grace_seconds: float) -> None:
        self.discard(key)

    # Prefect

    def log(self, run_id: str, text: str) -> None:
        self._world.told.append(text)

    def add_labels(self, run_id: str, labels: Any) -> None:
        self._ask()


@dataclass
class _Starter:
    driver: ADriver

    def start(self, candidates: Candidates, launch: Launch) -> None:
        self.driver.start(candidates, launch)


def listed(*memory: int, **options: Any) -> Candidates:
    """Return candidates with so much memory each."""
    return Candidates(
        candidates=tuple(
            Candidate(
                accelerator=f"chip-{place}",
                image={"reference": "image"},
                job="",
                job_sha256="",
                job_variables={},
                memory_gb=size,
            )
            for place, size in enumerate(memory)
        ),
        function="train",
        **options,
    )
