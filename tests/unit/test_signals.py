"""Interruptions told apart from failures, and signals that end programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from kinetic_flows.core.signals import deferred_signals, heeded_signals, interruption_in


def _as_prefect_does(interruption: BaseException) -> BaseException:
    """Return an error that was raised while an interruption was handled."""
    try:
        try:
            raise interruption
        except BaseException:  # noqa: BLE001
            raise ValueError("Task run is not set")  # noqa: B904
    except ValueError as error:
        return error


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()])
def test_an_interruption_is_found_behind_the_error_that_it_caused(
    interruption: BaseException,
) -> None:
    assert interruption_in(interruption) is interruption
    assert interruption_in(_as_prefect_does(interruption)) is interruption


def test_a_failure_is_no_interruption_even_while_one_is_being_handled() -> None:
    assert interruption_in(ValueError("no")) is None
    before = KeyboardInterrupt()
    assert interruption_in(_as_prefect_does(before), before=before) is None


def test_what_a_handler_of_a_signal_raises_is_an_interruption() -> None:
    def give_up(*_: object) -> None:
        raise TimeoutError("enough")

    earlier = signal.signal(signal.SIGUSR1, give_up)
    try:
        with pytest.raises(TimeoutError) as caught:
            signal.raise_signal(signal.SIGUSR1)
        assert interruption_in(caught.value) is caught.value
        assert interruption_in(TimeoutError("of the network")) is None
    finally:
        signal.signal(signal.SIGUSR1, earlier)


PROGRAM = """
import signal, sys
from kinetic_flows.core.signals import heeded_signals
{before}
try:
    with heeded_signals():
        try:
            signal.raise_signal(signal.{name})
        except BaseException as error:
            print("interrupted by", error, type(error).__mro__[1].__name__, flush=True)
            {then}
except BaseException as error:
    print("left with", repr(error), flush=True)
print("went on", flush=True)
"""


def _run(name: str, before: str = "", then: str = "raise") -> tuple[int, str]:
    program = PROGRAM.format(name=name, before=before, then=then)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("then", ["raise", "pass", "raise ValueError from None"])
def test_a_signal_interrupts_the_work_and_then_ends_the_program_as_ever(
    name: str, then: str
) -> None:
    code, shown = _run(name, then=then)
    assert code == -getattr(signal, name)
    assert shown == f"interrupted by {name} KeyboardInterrupt\n"


def test_a_program_that_handles_or_ignores_a_signal_keeps_doing_that() -> None:
    ignoring = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    assert _run("SIGHUP", ignoring) == (0, "went on\n")
    handling = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"
    assert _run("SIGTERM", handling) == (
        0,
        "interrupted by 7 BaseException\nleft with SystemExit(7)\nwent on\n",
    )


def test_handlers_are_as_before_afterwards_and_threads_have_none() -> None:
    def in_thread() -> None:
        with heeded_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    with heeded_signals():
        pass
    assert seen == [before]
    assert signal.getsignal(signal.SIGTERM) == before


def test_an_interruption_comes_after_the_moment_that_it_must_not_come_in() -> None:
    reached: list[str] = []

    def write_down() -> None:
        with deferred_signals():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("the record is written")

    with pytest.raises(KeyboardInterrupt):
        write_down()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
