"""Which process of a run calls its function, where the run may go on one of several accelerators.

Processes of several accelerators may start at once, or one after the other, and every one of them
claims its round in the store before it does anything else: an object is created once, so one
accelerator has the round, and the others stand down. Until then a process reports nothing and
leaves no result: of a run that goes on elsewhere, its end would be that run's end.

The client's side, with all the objects, is `kinetic_flows/core/candidates.py`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from .contract import (
    EXIT_BAD_LAUNCH,
    EXIT_OBJECT_REFUSED,
    Fault,
    StoreAway,
    claim_object,
    host_up_object,
    round_end_object,
    round_object,
)
from .endings import Before, Ending, terminated
from .interrupts import Interrupts
from .stores import BucketStore, DirectoryStore

LAUNCH_VARIABLE = "KINETIC_LAUNCH"
"""Says which start of which accelerator this is: `r0c1`."""

OUT_OF_MEMORY = "out_of_memory"
"""Cause of an end after which the run goes on elsewhere."""

LOOK_SECONDS = 1.0
"""How often hosts look for one another, and for the claim."""

END_SECONDS = 60.0
"""How long a host waits to be ended after another one; each is given some time for it."""

PATIENCE_SECONDS = 120.0
"""How long a store that is away is waited for."""

_LAUNCH = re.compile(r"r(\d+)c(\d+)")

Answer = TypeVar("Answer")


class Launch(NamedTuple):
    """One start of one of the accelerators that a run may go on.

    Attributes:
        round: The round, from 0.
        candidate: The accelerator's place in the list, from 0.
        accelerator: Its name.
        moves_on: Whether the run goes on elsewhere when the function runs out of memory.
    """

    round: int
    candidate: int
    accelerator: str
    moves_on: bool


def launch_of(job: Mapping[str, Any], environ: Mapping[str, str]) -> Launch:
    """Return which launch this process is, of a run that may go on several accelerators.

    Args:
        job: The job.
        environ: This process's environment.

    Raises:
        Fault: The environment names none, or one of another job.
    """
    spec = job["candidate"]
    text = environ.get(LAUNCH_VARIABLE, "")
    found = _LAUNCH.fullmatch(text)
    if found is None or int(found[2]) != spec["number"]:
        message = f"{LAUNCH_VARIABLE} is {text!r} and must name a start of accelerator "
        raise Fault(EXIT_BAD_LAUNCH, f"{message}{spec['number']}, such as r0c{spec['number']}")
    return Launch(int(found[1]), spec["number"], spec["accelerator"], spec["moves_on"])


class Claims:
    """What one host of a launch has to do with its round's claim.

    Args:
        launch: The launch.
        job: Its job.
        host: Number of this host.
        store: Where claims are.
        interrupts: Asked to stop, waiting raises.
    """

    def __init__(
        self,
        launch: Launch,
        job: Mapping[str, Any],
        host: int,
        store: DirectoryStore | BucketStore,
        interrupts: Interrupts,
    ) -> None:
        self.launch = launch
        self._run_id: str = job["run_id"]
        self._hosts: int = job["hosts"]
        self._host = host
        self._store = store
        self._interrupts = interrupts
        self._claim = claim_object(self._run_id, launch.round)

    def take(self) -> str | None:
        """Have the round, as soon as every host of the launch is up.

        Returns:
            Why this process stands down; None where it is to call the function.

        Raises:
            Fault: The store refuses, or is away for too long.
        """
        if self._hosts > 1:
            self._say_up()
            self._await_hosts()
        owner = self._patiently(self._owner)
        if owner is None and not self._host:
            self._patiently(self._put_claim)
        while owner is None:
            owner = self._patiently(self._owner)
            if owner is None:
                self._pause()
        return self._standing_down(owner)

    def before(self) -> Before:
        """Return what has become of the run in the rounds before this one.

        Raises:
            Fault: The store refuses, or is away for too long.
        """
        return self._patiently(self._find_before)

    def _find_before(self) -> Before:
        number = self.launch.round
        begun = [at for at in range(number) if self._was_begun(at)]
        if not begun or self._preemptions(number) <= self._preemptions(begun[-1]):
            return Before(len(begun))
        next_round = self._read(round_object(self._run_id, begun[-1] + 1)) or {}
        return Before(len(begun), str(next_round.get("why") or ""))

    def _was_begun(self, number: int) -> bool:
        owner = self._read(claim_object(self._run_id, number))
        return owner is not None and owner.get("candidate") is not None

    def _preemptions(self, number: int) -> int:
        begun = self._read(round_object(self._run_id, number)) or {}
        return int(begun.get("preemptions") or 0)

    def move_on(self, message: str) -> None:
        """Say that the run goes on elsewhere, as it ran out of memory here.

        Args:
            message: What happened, as people read it.
        """
        end = {"cause": OUT_OF_MEMORY, "message": message}
        name = round_end_object(self._run_id, self.launch.round)
        self._store.put_if_absent(name, json.dumps(end, sort_keys=True).encode())

    def is_over(self) -> bool:
        """Whether the run goes on elsewhere, or has begun to."""
        number = self.launch.round
        names = (round_end_object(self._run_id, number), round_object(self._run_id, number + 1))
        return any(self._store.read(name) is not None for name in names)

    def await_end(self, say: Callable[[str], None]) -> Ending:
        """Wait until the Job ends this host, as another one of the launch was ended.

        The run begins anew from its list then. Were this host the first to end, the Job would
        have failed because of it, and not for what befell the other.
        """
        say("another host was stopped, or ran out of memory: this one waits to be ended")
        deadline = time.monotonic() + END_SECONDS
        while not self._interrupts.is_terminated and time.monotonic() < deadline:
            self._interrupts.wait_until(deadline)
        return terminated("as another host was")

    def _standing_down(self, owner: Mapping[str, Any]) -> str | None:
        candidate = owner.get("candidate")
        if candidate is None:
            return str(owner.get("why") or "it was given up")
        if candidate != self.launch.candidate:
            return "another accelerator of the list was first"
        # Started again, as Kubernetes does where a node was lost.
        return "the run goes on elsewhere" if self._patiently(self.is_over) else None

    def _say_up(self) -> None:
        record = json.dumps({"up": time.time()}).encode()
        self._patiently(lambda: self._store.put_if_absent(self._up(self._host), record))

    def _await_hosts(self) -> None:
        """Have the first host wait for the others, unless somebody else has the round."""
        waiting = list(range(1, self._hosts)) if not self._host else []
        while waiting and self._patiently(self._owner) is None:
            while waiting and self._is_up(waiting[0]):
                del waiting[0]
            if waiting:
                self._pause()

    def _is_up(self, host: int) -> bool:
        return self._patiently(lambda: self._store.read(self._up(host))) is not None

    def _up(self, host: int) -> str:
        launch = self.launch
        return host_up_object(self._run_id, launch.round, launch.candidate, host)

    def _put_claim(self) -> None:
        claim = {"candidate": self.launch.candidate, "why": "", "is_over": False}
        # Whether it is ours is read afterwards: an answer that was lost is asked for again.
        self._store.put_if_absent(self._claim, json.dumps(claim, sort_keys=True).encode())

    def _owner(self) -> dict[str, Any] | None:
        return self._read(self._claim)

    def _read(self, name: str) -> dict[str, Any] | None:
        data = self._store.read(name)
        if data is None:
            return None
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return found
        raise Fault(EXIT_OBJECT_REFUSED, f"the object {name} is refused: it is no claim")

    def _patiently(self, ask: Callable[[], Answer]) -> Answer:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return ask()
            except StoreAway:
                if time.monotonic() >= deadline:
                    raise
            self._pause()

    def _pause(self) -> None:
        self._interrupts.wait_until(time.monotonic() + LOOK_SECONDS)
