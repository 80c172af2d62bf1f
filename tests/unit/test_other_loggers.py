"""What other libraries log for us does not reach the person; all else does, as they set it up."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import pytest

from kinetic_flows.core.api_boundary import ApiBoundary


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def heard() -> Iterator[list[str]]:
    """What a handler of the root logger gets, at any level."""
    root, handler = logging.getLogger(), _Kept()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler.said
    root.removeHandler(handler)
    root.setLevel(level)


def test_what_is_said_for_us_is_dropped_and_what_is_said_for_others_is_not(
    heard: list[str],
) -> None:
    logging.getLogger("httpx").info("before")
    with ApiBoundary():
        logging.getLogger("httpx").info("for us")
        logging.getLogger("websockets.client").debug("> Authorization: Basic c2VjcmV0")
        logging.getLogger("prefect.engine").warning("for us, too")
        logging.getLogger("their.own").info("of their own")
        logging.getLogger("kinetic_flows.runs").warning("of ours")
    logging.getLogger("httpx").info("after")
    assert heard == ["before", "of their own", "of ours", "after"]


def test_threads_are_told_by_who_started_them(heard: list[str]) -> None:
    def say(text: str) -> None:
        logging.getLogger("httpcore").debug(text)

    with ApiBoundary():
        ours = threading.Thread(target=copy_context().run, args=(say, "ours"))
        theirs = threading.Thread(target=say, args=("theirs",))
        for thread in (ours, theirs):
            thread.start()
            thread.join()
    assert heard == ["theirs"]


@pytest.mark.parametrize(("flow", "is_heard"), [("kinetic-run", False), ("mine", True)])
def test_of_flows_ours_are_dropped_and_theirs_are_not(
    heard: list[str], flow: str, is_heard: bool
) -> None:
    logger, said_of = logging.getLogger("prefect.mine"), {"flow_name": flow}
    with ApiBoundary():
        logger.warning("so", extra=said_of)
    logger.warning("so", extra=said_of)
    assert bool(heard) is is_heard


def test_debugging_shows_it_but_for_headers(
    heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETIC_DEBUG", "1")
    with ApiBoundary():
        logging.getLogger("httpx").info("GET")
        logging.getLogger("httpx").debug("Authorization: Basic c2VjcmV0")
    assert heard == ["GET"]


IMPORTS = """
    import logging, sys
    from kinetic_flows.core.api_boundary import ApiBoundary

    {before}
    with ApiBoundary():
        from prefect import flow, get_run_logger
    {after}
    with ApiBoundary():
        pass
    handlers = [type(each).__name__ for each in logging.getLogger().handlers]
    logging.getLogger("mine").info("after: %s", handlers)
    logging.getLogger("prefect.flows.some").info("of mine", extra={{"flow_name": "mine"}})
    logging.getLogger("prefect.flows.some").info("of ours", extra={{"flow_name": "kinetic-run"}})
"""


def said(folder: Path, before: str = "", after: str = "") -> str:
    (folder / "main.py").write_text(textwrap.dedent(IMPORTS).format(before=before, after=after))
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def test_a_log_file_goes_on_when_prefect_is_imported_for_us(tmp_path: Path) -> None:
    said(tmp_path, "logging.basicConfig(filename='log', filemode='w', level=logging.INFO)")
    assert (tmp_path / "log").read_text().splitlines() == [
        "INFO:mine:after: ['FileHandler']",
        "INFO:prefect.flows.some:of mine",
    ]


def test_a_handler_without_a_format_stays(tmp_path: Path) -> None:
    before = "logging.getLogger().addHandler(logging.StreamHandler())\n"
    shown = said(tmp_path, before + "logging.getLogger().setLevel(logging.INFO)")
    assert shown.splitlines() == ["after: ['StreamHandler']", "of mine"]


def test_without_handlers_a_persons_flows_speak_as_prefect_has_them_do(tmp_path: Path) -> None:
    shown = said(tmp_path)
    assert shown.count("of mine") == 1
    assert " | INFO " in shown
    assert "of ours" not in shown


def test_logging_can_be_set_up_after_a_call(tmp_path: Path) -> None:
    shown = said(tmp_path, after="logging.basicConfig(level=logging.INFO)")
    assert shown.splitlines() == [
        "INFO:mine:after: ['StreamHandler']",
        "INFO:prefect.flows.some:of mine",
    ]
