"""Every call of the loopback Google: who makes it, whether it may, and what a test spoils."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from loopback.google.answers import GoogleRefusal, api_off, invalid
from loopback.google.state import Caller, GoogleState

T = TypeVar("T")

ALWAYS_ON = frozenset({"oauth2", "operations"})


@dataclass(kw_only=True)
class GoogleFault:
    """Something to go wrong with the next calls of a method.

    Attributes:
        method: Name of the method: `CreateCluster` or, where several services have it,
            `Projects.SetIamPolicy` by gRPC, `routers.insert` by REST.
        refusal: What it is answered with; None to answer it properly.
        times: How many calls to spoil.
        handled: Whether the call takes effect, and only its answer is lost.
        stall_seconds: How long the answer is held back.
        operation: Whether the call is answered, and its operation `fails` half way with the
            refusal, or `stalls` for as long as the fault is there.
        who: Only calls of this address; None for anybody's.
    """

    method: str
    refusal: GoogleRefusal | None = None
    times: int = 1
    handled: bool = False
    stall_seconds: float = 0.0
    operation: str | None = None
    who: str | None = None
    over: threading.Event = field(default_factory=threading.Event)


operation_fault: ContextVar[GoogleFault | None] = ContextVar("operation_fault", default=None)
"""What is to go wrong with an operation that is begun by the call that is being answered."""


class Calls:
    """Answers calls, unless something speaks against it.

    Args:
        state: What Google keeps.
    """

    def __init__(self, state: GoogleState) -> None:
        self.state = state
        self.made: list[tuple[str, str]] = []
        self._faults: list[GoogleFault] = []
        self._lock = threading.Lock()

    @contextmanager
    def fault(self, fault: GoogleFault) -> Iterator[GoogleFault]:
        """Spoil calls as long as the block runs."""
        with self._lock:
            self._faults.append(fault)
        try:
            yield fault
        finally:
            fault.over.set()
            with self._lock:
                self._faults.remove(fault)

    def names(self) -> list[str]:
        """Return the methods that were called, oldest first."""
        with self._lock:
            return [method for method, _ in self.made]

    def answer(self, api: str, method: str, caller: Caller, act: Callable[[], T]) -> T:
        """Answer a call.

        Args:
            api: First word of the API's host.
            method: The method.
            caller: Who calls.
            act: Does what is asked.

        Raises:
            GoogleRefusal: What the call is answered with instead.
        """
        fault = self._fault_for(method, caller)
        if fault and fault.stall_seconds:
            fault.over.wait(fault.stall_seconds)
        refusal = fault.refusal if fault and not fault.operation else None
        if refusal and fault and not fault.handled:
            raise refusal
        self._require_api(api, caller)
        token = operation_fault.set(fault if fault and fault.operation else None)
        try:
            with self.state.lock:
                answered = act()
        finally:
            operation_fault.reset(token)
        if refusal:
            raise refusal
        return answered

    def _fault_for(self, method: str, caller: Caller) -> GoogleFault | None:
        with self._lock:
            self.made.append((method, caller.email))
            for fault in self._faults:
                is_meant = method == fault.method or method.endswith(f".{fault.method}")
                fits = is_meant and fault.who in (None, caller.email)
                if fits and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def _require_api(self, api: str, caller: Caller) -> None:
        if api in ALWAYS_ON:
            return
        with self.state.lock:
            project = self.state.projects.get(caller.consumer)
            if project is not None and not project.answers(api):
                raise api_off(api, project.number)


def refuse_unknown(message: Message) -> None:
    """Refuse a request with fields that the API does not have.

    Raises:
        GoogleRefusal: There is one.
    """
    unknown = UnknownFieldSet(message)
    if len(unknown):
        numbers = ", ".join(str(each.field_number) for each in unknown)
        name = message.DESCRIPTOR.full_name
        raise invalid(f"Invalid JSON payload received. Unknown fields {numbers} of {name}.")
    for _, value in message.ListFields():
        for each in _messages(value):
            refuse_unknown(each)


def _messages(value: Any) -> list[Message]:
    if isinstance(value, Message):
        return [value]
    values = value.values() if hasattr(value, "values") else value
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        return []
    return [each for each in values if isinstance(each, Message)]
