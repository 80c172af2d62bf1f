"""The function's streams and what it logs, from its own process to the log and to Prefect."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from kinetic_flows.runner_image.runner.marks import RESULT_LOGGER

from kinetic_flows.core.streams import StreamDecoder
from prefect_wire import PrefectWire, serve
from runner_jobs import Ended, Job


@pytest.fixture
def prefect() -> Iterator[PrefectWire]:
    with serve() as wire:
        yield wire


def _run(tmp_path: Path, source: str, wire: PrefectWire | None = None) -> Ended:
    url = wire.url if wire else None
    return Job(tmp_path / "store", source=source, prefect_url=url).run()


def _printed(ended: Ended, where: str) -> str:
    return "".join(piece.text for piece in StreamDecoder().take(ended.log) if piece.where == where)


def _logged(wire: PrefectWire) -> list[tuple[str, int, str]]:
    """Return what came from the function: the runner's last line says what it returned."""
    return [
        (log["name"], log["level"], log["message"])
        for batch in wire.batches
        for log in batch
        if log["name"] != RESULT_LOGGER
    ]


def test_each_stream_arrives_as_it_was_written(tmp_path: Path) -> None:
    source = r"""
        import subprocess, sys
        def main():
            print("out", 1)
            sys.stderr.write("\r10%")
            sys.stderr.write("\r20%\n")
            sys.stdout.buffer.write("é\n".encode())
            print("no end", end="", file=sys.stderr)
            script = "echo child; echo its error >&2; echo by name > /dev/stderr"
            subprocess.run(["sh", "-c", script], check=True)
            print("x" * 300_000)
    """
    ended = _run(tmp_path, source)
    assert _printed(ended, "stdout") == "out 1\né\nchild\n" + "x" * 300_000 + "\n"
    assert _printed(ended, "stderr") == "\r10%\r20%\nno endits error\nby name\n"


def test_what_python_writes_keeps_its_order_over_both_streams(tmp_path: Path) -> None:
    source = """
        import logging, sys
        log = logging.getLogger()
        def main():
            for number in range(500):
                print(number, end=" ", file=sys.stderr if number % 2 else sys.stdout)
                if number % 7 == 0:
                    print()
                    log.warning("%d ", number)
    """
    shown = _run(tmp_path, source).output.split()
    expected = [str(n) for n in range(500) for _ in range(2 if n % 7 == 0 else 1)]
    assert shown == expected


def test_a_function_may_close_or_replace_its_streams(tmp_path: Path) -> None:
    source = """
        import os, sys
        def main():
            print("first")
            os.close(1)
            sys.stderr = open(os.devnull, "w")
            print("nowhere", file=sys.stderr)
            raise ValueError("still told")
    """
    ended = _run(tmp_path, source)
    assert _printed(ended, "stdout") == "first\n"
    assert "ValueError: still told\n" in _printed(ended, "stderr")


def test_records_keep_level_and_logger_where_nothing_is_configured(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    source = """
        import logging
        log = logging.getLogger("my.app")
        def main():
            log.debug("too little")
            log.info("epoch %d", 1)
            logging.warning("diverging")
            log.error("two\\nlines")
            print("printed")
    """
    ended = _run(tmp_path, source, prefect)
    assert _logged(prefect) == [
        ("my.app", 20, "epoch 1"),
        ("root", 30, "diverging"),
        ("my.app", 40, "two\nlines"),
        ("kinetic", 20, "printed"),
    ]
    python = subprocess.run(
        [sys.executable, "-c", f"{dedent(source)}\nmain()"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert _printed(ended, "stderr") == python.stderr
    assert _printed(ended, "stdout") == python.stdout


def test_a_function_s_own_configuration_of_logging_is_heeded(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    source = """
        import logging, sys
        log = logging.getLogger("my.app")
        def main():
            logging.basicConfig(format="%(levelname)s|%(name)s|%(message)s")
            log.info("hidden")
            log.warning("shown")
            logging.getLogger().setLevel(logging.DEBUG)
            logging.getLogger().addHandler(logging.StreamHandler(sys.stdout))
            log.debug("twice")
            logging.getLogger().handlers = [logging.FileHandler("own.log")]
            log.warning("to a file")
    """
    ended = _run(tmp_path, source, prefect)
    assert _printed(ended, "stderr") == "WARNING|my.app|shown\nDEBUG|my.app|twice\n"
    assert _printed(ended, "stdout") == "twice\n"
    assert _logged(prefect) == [
        ("my.app", 20, "hidden"),
        ("my.app", 30, "shown"),
        ("my.app", 10, "twice"),
        ("kinetic", 20, "twice"),
    ]


def test_a_logged_exception_is_one_record_and_bad_arguments_harm_nobody(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    source = """
        import logging
        def main():
            logging.getLogger("app").info("%d", "no number")
            try:
                1 / 0
            except ZeroDivisionError:
                logging.getLogger("app").exception("failed")
    """
    ended = _run(tmp_path, source, prefect)
    [(name, level, message)] = _logged(prefect)
    assert (name, level) == ("app", 40)
    assert message.startswith("failed\nTraceback (most recent call last):\n")
    assert message.endswith("ZeroDivisionError: division by zero")
    assert f"{message}\n" == _printed(ended, "stderr")


def test_a_failure_is_one_error_and_what_is_printed_to_stderr_is_none(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    source = """
        import sys
        def main():
            print("warming up", file=sys.stderr)
            raise ValueError("no")
    """
    ended = _run(tmp_path, source, prefect)
    first, failure = _logged(prefect)
    assert first == ("kinetic.stderr", 20, "warming up")
    assert failure[:2] == ("kinetic.traceback", 40)
    assert failure[2].splitlines()[0] == "Traceback (most recent call last):"
    assert failure[2].splitlines()[-1] == "ValueError: no"
    assert f"{failure[2]}\n" in _printed(ended, "stderr")


def test_children_that_are_forked_log_as_their_parent_does(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    source = """
        import logging, multiprocessing
        def work(number):
            logging.getLogger("child").warning("number %d", number)
        def main():
            with multiprocessing.get_context("fork").Pool(2) as pool:
                pool.map(work, range(20))
    """
    _run(tmp_path, source, prefect)
    expected = [("child", 30, f"number {number}") for number in range(20)]
    assert sorted(_logged(prefect)) == sorted(expected)


def test_a_record_that_is_too_long_for_one_message_is_printed(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    source = "from logging import getLogger\ndef main(): getLogger('app').warning('x' * 500_000)"
    ended = _run(tmp_path, source, prefect)
    assert _printed(ended, "stderr") == "x" * 500_000 + "\n"
    assert "".join(prefect.messages) == "x" * 500_000


def test_a_function_with_prefect_has_a_run_logger(tmp_path: Path, prefect: PrefectWire) -> None:
    source = """
        def main():
            from prefect import get_run_logger
            get_run_logger().info("hello")
            get_run_logger().warning("careful")
    """
    ended = _run(tmp_path, source, prefect)
    assert ended.exit_code == 0, ended.output
    told = [entry for entry in _logged(prefect) if entry[0] == "prefect.flow_runs"]
    assert told == [("prefect.flow_runs", 20, "hello"), ("prefect.flow_runs", 30, "careful")]
    assert "| INFO    | Flow run 'main' - hello\n" in _printed(ended, "stderr")


def test_a_function_that_imports_neither_has_neither_prefect_nor_subprocess(
    tmp_path: Path,
) -> None:
    source = "import sys\ndef main(): print({'prefect', 'subprocess'} & set(sys.modules))"
    assert _run(tmp_path, source).output == "set()\n"


def test_a_text_that_no_bytes_can_be_harms_neither_the_function_nor_other_lines(
    tmp_path: Path, prefect: PrefectWire
) -> None:
    source = r"""
        import logging, os
        def main():
            logging.info("half a pair: \ud83d")
            logging.info("a file: %s", os.fsdecode(b"caf\xe9"))
            raise ValueError("half: \ud83d, file: " + os.fsdecode(b"caf\xe9"))
    """
    ended = _run(tmp_path, source, prefect)
    first, second, failure = _logged(prefect)
    assert first == ("root", 20, r"half a pair: \ud83d")
    assert second == ("root", 20, "a file: caf?")
    assert failure[2].startswith("Traceback (most recent call last):\n")
    assert r"half: \ud83d, file: caf" in failure[2]
    assert 'File "app.py", line 6, in main' in _printed(ended, "stderr").replace("'", '"')
    assert prefect.state_names[-1] == "Failed"
