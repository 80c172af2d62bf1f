"""The boundary between what people write and what we do for them: what an error shows of us.

Whatever leaves a public function by an exception passes here. An error that is expected says what
is wrong in its text: frames and causes of ours, and those of other libraries behind them, would
bury it. What a person's function raised shows that function's frames. Everything else is a fault
of ours and keeps all that can help to find it.

Python adds a frame to a traceback when an exception reaches it, and none when a `with` statement
lets the exception go on; so what `__exit__` takes off is not put back. That holds for whoever
shows the exception: the interpreter, a notebook, pytest, `logging`, a future.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Generic, Literal, NoReturn, ParamSpec, TypeVar

from kinetic_flows.core.errors import KineticError, hide_cause, note_doctor
from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    from types import TracebackType

    from kinetic_flows.core import keras_kinetic, other_loggers
    from kinetic_flows.core.settings import settings
else:
    keras_kinetic = LazyModule("kinetic_flows.core.keras_kinetic")
    other_loggers = LazyModule("kinetic_flows.core.other_loggers")
    settings = LazyModule("kinetic_flows.core.settings.settings")

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_is_inside: ContextVar[bool] = ContextVar("is_inside", default=False)


def is_at_work() -> bool:
    """Whether this code is called by a public function of ours, in whatever thread."""
    return _is_inside.get()


class ApiBoundary:
    """A block at the top of a public function; within another one it changes nothing.

    Attributes:
        let_out_the_functions: Whether an exception has left it that a person's function raised.
    """

    let_out_the_functions = False

    def __enter__(self) -> None:
        self._is_outermost = not _is_inside.get()
        if self._is_outermost:
            self._before = sys.exception()
            _is_inside.set(True)
            other_loggers.begin_work()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> Literal[False]:
        if self._is_outermost:
            # A token would be refused where a coroutine is closed in another context.
            _is_inside.set(False)
            other_loggers.end_work()
            if isinstance(error, TypeError):
                _hint_at_keyword(error)
            if isinstance(error, KineticError):
                note_doctor(error)
            if error is not None:
                self.let_out_the_functions, _ = _of_function(error)
                tidy(error, before=self._before)
        return False


def at_api_boundary(function: Callable[P, R]) -> Callable[P, R]:
    """Have a public function let errors out without what is not the caller's business."""

    @wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        with ApiBoundary():
            return function(*args, **kwargs)

    return guarded


class BoundedIterator(Generic[T]):
    """An iterator of ours in a person's hands, each of whose steps is at the boundary.

    Args:
        steps: What it yields; a generator is closed with it.
    """

    def __init__(self, steps: Iterator[T]) -> None:
        self._steps = steps

    def __iter__(self) -> Iterator[T]:
        return self

    @at_api_boundary
    def __next__(self) -> T:
        return next(self._steps)

    def close(self) -> None:
        """End a generator's work, as its own `close` does."""
        if isinstance(self._steps, Generator):
            self._steps.close()


def raise_what_function_raised(error: BaseException, trace: TracebackType | None) -> NoReturn:
    """Raise what a person's function raised; it leaves with the function's frames alone.

    Args:
        error: The exception.
        trace: The frames of the function, as they were where it ran; None when they are unknown.
    """
    context = error.__context__
    try:
        raise error.with_traceback(trace)
    except BaseException:
        # Raising puts what the caller may be handling in the place of what the function handled.
        if context is not None:
            error.__context__ = context
        raise


def tidy(error: BaseException, *, before: BaseException | None = None) -> None:
    """Take off an exception what is not the business of whoever gets it.

    Args:
        error: The exception; with `KINETIC_DEBUG` it stays as it is.
        before: What the caller was handling already; it stays in sight.
    """
    if settings.is_debugging():
        return
    is_theirs, trace = _of_function(error)
    if is_theirs:
        error.with_traceback(trace)
    elif isinstance(error, KineticError):
        hide_cause(error, before)
        error.with_traceback(None)
    elif isinstance(error, KeyboardInterrupt):
        error.with_traceback(None)


def _hint_at_keyword(error: TypeError) -> None:
    """Add to an error what to write in place of a keyword that a public function has not."""
    trace = error.__traceback__
    if trace is not None and trace.tb_next is None:
        note = keras_kinetic.note_for(error)
        if note is not None:
            error.add_note(note)


def _of_function(error: BaseException) -> tuple[bool, TracebackType | None]:
    """Return whether an exception is a person's function's, and that function's frames."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is raise_what_function_raised.__code__:
            return True, trace.tb_next
        trace = trace.tb_next
    return False, None
