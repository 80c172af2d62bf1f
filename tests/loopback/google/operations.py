"""What takes a while: it goes on a step with each look at it, so that nothing depends on time.

`finish_all` is what becomes of it when nobody looks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.message import Message

from loopback.google.answers import GoogleRefusal, missing
from loopback.google.calls import GoogleFault, operation_fault
from loopback.google.state import GoogleState

SERVICE = "google.longrunning.Operations"


@dataclass(kw_only=True)
class Work:
    """Something on its way.

    Attributes:
        name: Name of the operation.
        steps: How many looks it takes.
        finish: Makes what it is to make, and returns it.
        fail: What becomes of what it worked on when it fails half way.
        fault: What is to go wrong.
        looks: How often somebody has looked.
        error: What it failed with; None as long as it has not.
        made: What came of it.
    """

    name: str
    steps: int
    finish: Callable[[], Any]
    fail: Callable[[GoogleRefusal], None] = lambda _: None
    fault: GoogleFault | None = None
    looks: int = 0
    error: GoogleRefusal | None = None
    made: Any = None
    done: bool = False

    def look(self) -> None:
        """Go on a step."""
        fault = self.fault
        if self.done or (fault and fault.operation == "stalls" and not fault.over.is_set()):
            return
        self.looks += 1
        fails = fault is not None and fault.operation == "fails"
        if fails and fault and fault.refusal and 2 * self.looks >= self.steps:
            self.end(fault.refusal)
        elif self.looks >= self.steps:
            self.done, self.made = True, self.finish()

    def end(self, refusal: GoogleRefusal) -> None:
        """Fail."""
        self.done, self.error = True, refusal
        self.fail(refusal)


class Operations:
    """Everything that is on its way, or was.

    Args:
        state: What Google keeps.
    """

    def __init__(self, state: GoogleState) -> None:
        self._state = state
        self._numbers = itertools.count(1)
        self.works: dict[str, Work] = {}

    def begin(
        self,
        name: str,
        finish: Callable[[], Any],
        *,
        fail: Callable[[GoogleRefusal], None] = lambda _: None,
        steps: int | None = None,
    ) -> Work:
        """Begin something; `{n}` in its name is a number of its own."""
        work = Work(
            name=name.format(n=next(self._numbers)),
            steps=self._state.steps if steps is None else steps,
            finish=finish,
            fail=fail,
            fault=operation_fault.get(),
        )
        if work.steps == 0:
            work.look()
        self.works[work.name] = work
        return work

    def finish_all(self) -> None:
        """Let everything that is on its way come to its end."""
        with self._state.lock:
            for work in list(self.works.values()):
                while not work.done and not (work.fault and work.fault.operation == "stalls"):
                    work.look()

    def find(self, name: str) -> Work:
        """Return an operation.

        Raises:
            GoogleRefusal: There is none.
        """
        if name not in self.works:
            raise missing(f"Operation {name} not found.")
        return self.works[name]

    def methods(self) -> dict[str, tuple[Any, Any]]:
        return {"GetOperation": (operations_pb2.GetOperationRequest, self._get)}

    def _get(self, request: operations_pb2.GetOperationRequest, _: Any) -> Message:
        work = self.find(request.name)
        work.look()
        return long_running(work)


def long_running(work: Work) -> operations_pb2.Operation:
    """Return an operation as google.longrunning has it."""
    shown = operations_pb2.Operation(name=work.name, done=work.done)
    if work.error:
        shown.error.CopyFrom(work.error.status())
    elif work.done:
        made = work.made
        shown.response.Pack(type(made).pb(made) if hasattr(type(made), "pb") else made)
    return shown
