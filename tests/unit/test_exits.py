"""How a program ends that a person has interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
from textwrap import dedent

import pytest

BEGIN = "from kinetic_flows.core.exits import at_exit, wait_for_nothing"


def ended(program: str) -> tuple[int, str, str]:
    """Return the exit code of a program and what it printed to each stream."""
    source = f"{BEGIN}\n{dedent(program)}"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("is_ending", [False, True])
def test_a_program_interrupted_twice_waits_for_none_of_its_threads(*, is_ending: bool) -> None:
    code, out, err = ended(f"""
        import threading
        threading.Thread(target=threading.Event().wait).start()
        def interrupted():
            wait_for_nothing()
            raise KeyboardInterrupt
        print("said")
        at_exit(interrupted) if {is_ending} else interrupted()
    """)
    assert (code, out) == (-signal.SIGINT, "said\n")
    assert "RuntimeError" not in err


def test_a_program_that_is_interrupted_twice_and_goes_on_ends_as_all_do() -> None:
    assert ended("wait_for_nothing()\nprint('said')") == (0, "said\n", "")
