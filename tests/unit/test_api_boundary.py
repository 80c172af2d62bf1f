"""What errors show of us: nothing that is expected, and everything that is not."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

import kinetic_flows
from kinetic_flows.core.api_boundary import (
    BoundedIterator,
    at_api_boundary,
    raise_what_function_raised,
)
from kinetic_flows.core.errors import ConfigurationError, KineticError
from kinetic_flows.core.interruption import in_thread

PACKAGE = str(Path(kinetic_flows.__file__).parent)
BEGINNING = """
    import kinetic

    @kinetic.run
    def train(rate, steps=1):
        return rate

"""


def ended(folder: Path, code: str, **variables: str) -> list[str]:
    """Return what an interpreter prints of an error that ends a program."""
    (folder / "main.py").write_text(textwrap.dedent(BEGINNING) + textwrap.dedent(code))
    (folder / "requirements.txt").write_text("")
    environment = {**os.environ, "KINETIC_HOME": str(folder / "home"), **variables}
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    return [line for line in done.stderr.splitlines() if not line.startswith("kinetic: ")]


EXPECTED = {
    "an accelerator": ('train.with_options(accelerator="l40")', "no accelerator 'l40'"),
    "an option": ("kinetic.run(acelerator='l4')", "has no option 'acelerator'"),
    "a value": ("kinetic.run(retries=-1)", "retries"),
    "no function": ("kinetic.run(int)", "the class int"),
    "inputs": ("train.map(3)", "the inputs are 3"),
    "an argument too few": ("train()", "TypeError: train(rate, steps): missing a required"),
    "an argument too many": ("train.plan(1, 2, 3)", "TypeError: train(rate, steps): too many"),
    "an argument too few of many": (
        """
            @kinetic.run
            def many(first, *rest, deep: int = 1, **more): ...

            many()
        """,
        "TypeError: many(first, *rest, deep, **more): missing a required",
    ),
    "an unknown argument": ("train.submit(1, step=3)", "unexpected keyword argument 'step'"),
    "a schedule": ("train.deploy('nightly', cron='at night')", "cron='at night' is no schedule"),
    "a parameter": ("train.deploy('nightly', parameters={'rat': 1})", "'rat'"),
    "an image": ("train.with_options(container_image='a b').plan(1)", "'a b'"),
    "requirements": ("train.with_options(requirements=['nump y']).plan(1)", "nump y"),
    "a missing file": ("train.with_options(requirements='no.txt').plan(1)", "no.txt"),
    "a wrong setting": (
        "import os; os.environ['KINETIC_MAX_CODE_SIZE_MB'] = 'big'; train.plan(1)",
        "'big'",
    ),
    "too much code": (
        """
            import os
            os.environ["KINETIC_MAX_CODE_SIZE_MB"] = "1"
            open("data.bin", "wb").write(os.urandom(1_500_000))
            train.plan(1)
        """,
        "KINETIC_MAX_CODE_SIZE_MB",
    ),
    "a variable to take along": (
        "train.with_options(capture_env_vars=['NO_SUCH']).plan(1)",
        "NO_SUCH",
    ),
    "in the event loop": (
        """
            import asyncio

            @kinetic.run
            async def coach(rate):
                return rate

            async def main():
                await coach()

            asyncio.run(main())
        """,
        "TypeError: coach(rate): missing a required argument",
    ),
    "in a thread": (
        """
            from concurrent.futures import ThreadPoolExecutor
            with ThreadPoolExecutor() as pool:
                pool.submit(train.plan, 1, 2, 3).result()
        """,
        "too many positional",
    ),
}


@pytest.mark.parametrize("what", EXPECTED)
def test_an_expected_error_shows_the_persons_lines_and_one_message(
    tmp_path: Path, what: str
) -> None:
    code, message = EXPECTED[what]
    lines = ended(tmp_path, code)
    text = "\n".join(lines)
    assert message in text
    assert PACKAGE not in text, "our frames are shown"
    assert "main.py" in text
    shown = [line for line in lines if line.startswith("Traceback")]
    assert len(shown) == 1, "the errors behind it are shown"
    last = max(at for at, line in enumerate(lines) if line.startswith("  File "))
    rest = [line for line in lines[last + 1 :] if not line.startswith("    ")]
    assert len(rest) <= 2, "a sentence, and what to do"


def test_debugging_shows_everything(tmp_path: Path) -> None:
    text = "\n".join(ended(tmp_path, "kinetic.run(acelerator='l4')", KINETIC_DEBUG="1"))
    assert PACKAGE in text
    assert "has no option 'acelerator'" in text


def test_what_is_not_expected_keeps_all_frames(tmp_path: Path) -> None:
    code = """
        class Tags(list):
            def __iter__(self):
                raise ZeroDivisionError("a fault")

        kinetic.run(tags=Tags(["a"]))
    """
    text = "\n".join(ended(tmp_path, code))
    assert PACKAGE in text
    assert text.endswith("ZeroDivisionError: a fault")


def test_what_the_person_was_handling_stays_in_sight(tmp_path: Path) -> None:
    code = """
        try:
            {}["rate"]
        except KeyError:
            kinetic.run(acelerator="l4")
    """
    text = "\n".join(ended(tmp_path, code))
    assert "KeyError: 'rate'\n\nDuring handling of the above exception" in text
    assert PACKAGE not in text


@at_api_boundary
def _translates() -> None:
    try:
        raise ConnectionRefusedError("111")
    except OSError as error:
        raise ConfigurationError("it is not there", hint="start it") from error


def _frames(trace: TracebackType | None) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(trace)]


def test_the_cause_is_kept_and_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        _translates()
    error = caught.value
    assert isinstance(error.cause, ConnectionRefusedError)
    assert _frames(error.cause.__traceback__) == ["_translates"]
    assert _frames(error.__traceback__) == ["test_the_cause_is_kept_and_not_shown"]
    assert "111" not in "".join(traceback.format_exception(error))


def test_the_cause_stays_here_when_the_error_goes_elsewhere() -> None:
    with pytest.raises(ConfigurationError) as caught:
        _translates()
    restored = pickle.loads(pickle.dumps(caught.value))
    assert (str(restored), restored.cause) == (str(caught.value), None)


def test_an_error_that_was_not_let_out_has_its_cause_too() -> None:
    error = KineticError("no")
    assert error.cause is None
    error.__cause__ = OSError("why")
    assert str(error.cause) == "why"


def test_a_log_record_shows_no_more_than_a_program_does(caplog: pytest.LogCaptureFixture) -> None:
    try:
        _translates()
    except KineticError:
        logging.getLogger("mine").exception("it failed")
    assert "it is not there" in caplog.text
    assert "_translates" not in caplog.text.replace("_translates()", "")
    assert "ConnectionRefusedError" not in caplog.text


def _steps() -> Iterator[int]:
    yield 1
    raise ConfigurationError("no more")


def test_an_iterator_is_at_the_boundary_at_each_step() -> None:
    steps = BoundedIterator(_steps())
    assert next(steps) == 1
    with pytest.raises(ConfigurationError) as caught:
        next(steps)
    assert _frames(caught.value.__traceback__) == [
        "test_an_iterator_is_at_the_boundary_at_each_step"
    ]
    assert list(steps) == []


def test_what_is_awaited_shows_the_await_alone() -> None:
    async def main() -> None:
        await in_thread(_translates)

    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(main())
    assert _frames(caught.value.__traceback__)[-1] == "main"


@at_api_boundary
def _raises(error: BaseException, trace: TracebackType | None) -> None:
    try:
        raise OSError("handled here")
    except OSError:
        raise_what_function_raised(error, trace)


def test_the_functions_exception_shows_the_functions_frames() -> None:
    try:
        [][1]
    except IndexError as error:
        trace = error.__traceback__
    there = ValueError("raised there")
    there.__context__ = KeyError("handled there")
    with pytest.raises(ValueError, match="raised there") as caught:
        _raises(there, trace)
    here = "test_the_functions_exception_shows_the_functions_frames"
    assert _frames(caught.value.__traceback__) == [here, here]
    assert isinstance(caught.value.__context__, KeyError)


def test_only_the_outermost_boundary_counts() -> None:
    causes: list[BaseException | None] = []

    @at_api_boundary
    def outer() -> None:
        with pytest.raises(ConfigurationError) as inner:
            _translates()
        causes.append(inner.value.__cause__)
        _translates()

    with pytest.raises(ConfigurationError) as caught:
        outer()
    assert isinstance(causes[0], ConnectionRefusedError)
    assert caught.value.__cause__ is None
    assert _frames(caught.value.__traceback__) == ["test_only_the_outermost_boundary_counts"]
