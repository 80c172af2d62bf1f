"""What a person sees of a call, in lines that stay and in lines that live."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from threading import Barrier, BrokenBarrierError

import pytest

from kinetic_flows.core import screen, waits
from kinetic_flows.core import terminal as shown
from kinetic_flows.core.screen import Screen, fitting
from kinetic_flows.core.terminal import Steps, TerminalProgress
from kinetic_flows.core.waits import longest_wait, try_failed, waiting_for
from terminals import Terminal

Open = Callable[..., Terminal]

URL = "http://127.0.0.1:4242/runs/flow-run/9229eced-5b99-450c-8951-8e1d81c01fc5"


class Pipe:
    """A call that is shown in plain lines.

    Args:
        is_verbose: Whether every step leaves a line.
    """

    def __init__(self, *, is_verbose: bool = False) -> None:
        self._events, self._output = io.StringIO(), io.StringIO()
        screen = Screen(self._events, self._output)
        self.call = TerminalProgress(screen, is_verbose=is_verbose)

    @property
    def lines(self) -> list[str]:
        """What was said, without how long anything took."""
        return re.sub(r"\d[\d.]* s\b", "N s", self._events.getvalue()).splitlines()

    @property
    def output(self) -> str:
        """What the function printed to its standard output."""
        return self._output.getvalue()


def go_warm(pipe: Pipe) -> None:
    """Have a call in which nothing is new."""
    call = pipe.call
    call.begin("train(rate=0.1) on cpu")
    call.aside("no cluster is configured")
    for name, status in (("lock", "cached"), ("preflight", "passed"), ("launch", "passed")):
        call.step(name, "started")
        call.step(name, status, "as ever")  # type: ignore[arg-type]
    call.launched(URL)
    call.output("training\n", "stdout")
    call.end("done")


def test_a_warm_call_leaves_one_line() -> None:
    pipe = Pipe()
    go_warm(pipe)
    assert pipe.lines == [f"kinetic: ✓ train(rate=0.1) on cpu · N s · {URL}"]
    assert pipe.output == "training\n"


def test_a_verbose_call_says_all_of_it() -> None:
    pipe = Pipe(is_verbose=True)
    go_warm(pipe)
    assert pipe.lines == [
        "kinetic: no cluster is configured",
        "kinetic: ✓ lock: as ever (N s, cached)",
        "kinetic: ✓ preflight: as ever (N s)",
        "kinetic: ✓ launch: as ever (N s)",
        f"kinetic: ✓ train(rate=0.1) on cpu · N s · {URL}",
    ]


def test_a_step_that_did_something_leaves_a_line_after_what_is_worth_knowing_then() -> None:
    pipe = Pipe()
    pipe.call.begin("train() on cpu")
    pipe.call.aside("no cluster is configured")
    pipe.call.step("build-image", "started")
    pipe.call.step("build-image", "done", "app with 2 packages")
    assert pipe.lines == [
        "kinetic: no cluster is configured",
        "kinetic: ✓ build-image: app with 2 packages (N s)",
    ]


def test_what_is_worth_knowing_beside_steps_alone_is_not_said_of_a_run() -> None:
    pipe = Pipe()
    pipe.call.begin("train() on cpu")
    pipe.call.aside("no cluster is configured")
    pipe.call.launched(URL)
    pipe.call.notice("Ctrl-C: cancelling the run")
    assert pipe.lines == ["kinetic: Ctrl-C: cancelling the run"]


def test_a_build_s_log_is_not_shown_in_a_pipe() -> None:
    pipe = Pipe()
    pipe.call.step("build-image", "started")
    pipe.call.log("build-image", "STEP 1/2: FROM base")
    pipe.call.step("build-image", "done", "app")
    assert pipe.lines == ["kinetic: ✓ build-image: app (N s)"]


def test_a_build_that_fails_shows_what_the_error_does_not_repeat_of_its_log() -> None:
    pipe = Pipe()
    pipe.call.step("build-image", "started")
    for line in ("STEP 1/2: FROM base", "STEP 2/2: RUN false", "exit 1"):
        pipe.call.log("build-image", line)
    pipe.call.step("build-image", "failed", "the build failed:\n    exit 1")
    assert pipe.lines == [
        "kinetic:   STEP 1/2: FROM base",
        "kinetic:   STEP 2/2: RUN false",
        "kinetic: ✗ build-image: the build failed: (N s)",
    ]


def test_a_verbose_build_shows_its_log_as_it_comes_and_only_once() -> None:
    pipe = Pipe(is_verbose=True)
    pipe.call.step("build-image", "started")
    pipe.call.log("build-image", "STEP 1/1: RUN false")
    pipe.call.step("build-image", "failed", "no")
    assert pipe.lines == [
        "kinetic: build-image | STEP 1/1: RUN false",
        "kinetic: ✗ build-image: no (N s)",
    ]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("failed", "✗ train() on cpu · failed after N s"),
        ("cancelled", "✗ train() on cpu · cancelled after N s"),
        ("launched", "✓ train() on cpu · launched in N s"),
        ("negative", "✗ train() on cpu · N s"),
    ],
)
def test_the_line_of_a_call_says_how_it_ended(outcome: str, said: str) -> None:
    pipe = Pipe()
    pipe.call.begin("train() on cpu")
    pipe.call.launched(URL)
    pipe.call.end(outcome)  # type: ignore[arg-type]
    assert pipe.lines == [f"kinetic: {said} · {URL}"]


def test_a_call_that_failed_before_it_had_a_run_leaves_that_to_its_error() -> None:
    pipe = Pipe()
    pipe.call.begin("train() on cpu")
    pipe.call.end("failed")
    assert pipe.lines == []


def test_the_line_of_a_call_tells_of_a_result_that_was_there() -> None:
    pipe = Pipe()
    pipe.call.begin("train() on cpu")
    pipe.call.launched(URL, "the result of an earlier run")
    pipe.call.end("done")
    assert pipe.lines == [f"kinetic: ✓ train() on cpu · the result of an earlier run · N s · {URL}"]


def test_what_the_function_printed_goes_to_the_stream_it_printed_to() -> None:
    pipe = Pipe()
    pipe.call.output("a value\n", "stdout")
    pipe.call.output("a complaint\n", "stderr")
    assert (pipe.output, pipe.lines) == ("a value\n", ["a complaint"])


def test_a_line_of_ours_does_not_go_on_where_the_function_left_off() -> None:
    pipe = Pipe()
    pipe.call.output("50 %", "stderr")
    pipe.call.notice("pending")
    assert pipe.lines == ["50 %", "kinetic: pending"]


def test_a_stream_without_the_characters_of_a_text_gets_them_written_out() -> None:
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    Screen(output, output).pass_on("fünf → 5\n", "stdout")
    assert output.buffer.getvalue() == b"f\\xfcnf \\u2192 5\n"  # type: ignore[attr-defined]


def test_nobody_who_reads_our_lines_is_no_reason_to_fail() -> None:
    closed = io.StringIO()
    closed.close()
    pipe = TerminalProgress(Screen(closed, io.StringIO()))
    pipe.begin("train() on cpu")
    pipe.launched(URL)
    pipe.warning("nobody hears it")
    pipe.end("done")
    nowhere = TerminalProgress(Screen(None, None))
    nowhere.output("training\n", "stdout")
    nowhere.notice("nobody hears it")


def test_what_a_step_does_is_told_until_it_ends_and_never_of_one_that_has_ended() -> None:
    steps = Steps()
    steps.start("build-image")
    steps.start("upload-code")
    steps.log("build-image", "STEP 1/2")
    assert steps.at_work() == ["build-image: STEP 1/2", "upload-code"]
    steps.describe("build-image", "pushing the image")
    steps.log("build-image", "layer 3")
    assert steps.at_work() == ["build-image: pushing the image", "upload-code"]

    steps.end("build-image")
    steps.describe("build-image", "too late")
    assert steps.at_work() == ["upload-code"]


def test_calls_that_begin_at_once_share_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    both = Barrier(2, timeout=0.5)

    def measure(_: str) -> int:
        with suppress(BrokenBarrierError):
            both.wait()
        return 1

    monkeypatch.setattr(screen, "cell_len", measure)
    monkeypatch.setattr(screen, "_current", None)
    with ThreadPoolExecutor(2) as pool:
        begun = [
            pool.submit(screen.current_screen, is_alive=False, has_colours=False) for _ in range(2)
        ]
    first, second = (each.result() for each in begun)
    assert first is second


def test_a_text_is_cut_by_the_columns_that_it_takes() -> None:
    assert fitting("train", 5) == "train"
    assert fitting("training", 5) == "trai…"
    assert fitting("学习率学习率", 5) == "学习…"


def test_a_wait_is_told_of_when_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    with waiting_for("bucket kinetic-x"):
        assert longest_wait() is None
        monkeypatch.setattr(waits, "WORTH_SAYING_SECONDS", 0.0)
        assert str(longest_wait()) == "bucket kinetic-x does not answer, 0 s"
        try_failed()
        try_failed()
        assert str(longest_wait()) == "bucket kinetic-x does not answer, tried 2 times, 0 s"
    assert longest_wait() is None


def test_what_takes_long_because_it_is_large_is_told_of_only_when_a_try_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waits, "WORTH_SAYING_SECONDS", 0.0)
    with waiting_for("bucket kinetic-x", moves_data=True):
        assert longest_wait() is None
        try_failed()
        assert str(longest_wait()) == "bucket kinetic-x does not answer, tried once, 0 s"


def test_where_no_line_lives_it_is_said_what_takes_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shown, "SILENT_SECONDS", (0.0,))
    pipe = Pipe()
    pipe.call.step("build-image", "started")
    pipe.call.log("build-image", "STEP 1/2: FROM base")
    pipe.call.beat()
    with waiting_for("bucket kinetic-x"):
        monkeypatch.setattr(waits, "WORTH_SAYING_SECONDS", 0.0)
        pipe.call.beat()
    assert pipe.lines[:2] == [
        "kinetic: build-image: STEP 1/2: FROM base ...",
        "kinetic: bucket kinetic-x does not answer, N s ...",
    ]


def test_a_run_that_goes_on_says_once_where_it_is_and_then_leaves_it_to_the_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shown, "SILENT_SECONDS", (0.0,))
    monkeypatch.setattr(shown, "LAUNCHED_SECONDS", 0.0)
    pipe = Pipe()
    pipe.call.begin("train() on l4")
    pipe.call.launched(URL, "pending: no node fits")
    pipe.call.beat()
    pipe.call.beat()
    pipe.call.launched(URL)
    told = len(pipe.lines)
    pipe.call.beat()
    assert pipe.lines[:2] == [
        f"kinetic: train() on l4 · pending: no node fits · {URL}",
        "kinetic: pending: no node fits ...",
    ]
    assert len(pipe.lines) == told, "it is the function that works"


# On a pseudo-terminal

CALL = """
    import os, sys
    from kinetic_flows.core.terminal import terminal_progress

    call = terminal_progress("auto", dict(os.environ))
    def go(text=""):
        print(text, end="", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


@pytest.fixture
def open_terminal(tmp_path: Path, terminals: list[Terminal]) -> Open:
    """Return what starts a program on a terminal that goes on from `CALL`.

    Where it has a `go()`, it waits for `Terminal.go`.
    """

    def start(body: str, *, columns: int = 100, **variables: str) -> Terminal:
        program = tmp_path / "program.py"
        program.write_text(dedent(CALL) + dedent(body))
        command = [sys.executable, str(program)]
        terminals.append(Terminal(command, {"PATH": "/usr/bin:/bin", **variables}, columns=columns))
        return terminals[-1]

    return start


def test_a_call_lives_on_a_terminal_and_leaves_its_line(open_terminal: Open) -> None:
    terminal = open_terminal(
        f"""
        call.begin("train(rate=0.1) on cpu")
        call.step("build-image", "started")
        call.log("build-image", "STEP 1/2: FROM base")
        go()
        call.step("build-image", "done", "app")
        call.launched("{URL}")
        go()
        call.end("done")
    """,
        columns=140,
    )
    terminal.until(r"^\* train\(rate=0.1\) on cpu · N s · build-image: STEP 1/2: FROM base$")
    terminal.go()
    terminal.until(rf"\* train\(rate=0.1\) on cpu · N s · running · {URL}$")
    terminal.go()
    terminal.end()
    assert terminal.lines == [
        "✓ build-image: app (N s)",
        f"✓ train(rate=0.1) on cpu · N s · {URL}",
    ]
    assert f"\x1b]8;;{URL}\x1b\\{URL}\x1b]8;;\x1b\\".encode() in terminal.raw, "a link"


def test_on_a_narrow_terminal_a_live_line_is_cut_and_leaves_nothing_behind(
    open_terminal: Open,
) -> None:
    terminal = open_terminal(
        """
        call.begin("train(rate=0.1, layers=[64, 64]) on tpu-v6e-8")
        call.step("build-image", "started")
        call.activity("build-image", "step 2/9: RUN uv pip install --no-deps")
        go()
        call.step("build-image", "done", "app")
        call.launched("http://host/run/1")
        call.end("done")
    """,
        columns=40,
    )
    terminal.until(r"^\* train\(rate=… · N s · build-image:.*…$")
    terminal.narrow(20)
    terminal.go()
    terminal.end()
    assert "".join(terminal.lines) == (
        "✓ build-image: app (N s)"
        "✓ train(rate=0.1, layers=[64, 64]) on tpu-v6e-8 · N s · http://host/run/1"
    )


def test_output_that_ends_in_a_line_is_left_alone_until_that_ends(
    open_terminal: Open,
) -> None:
    terminal = open_terminal("""
        call.begin("train() on cpu")
        go()
        call.output("\\r 10 %", "stderr")
        call.output("\\r 50 %", "stderr")
        go()
        call.output("\\r100 %\\n", "stderr")
        go()
        call.output("no end of the line", "stdout")
        call.launched("http://host/run/1")
        call.end("done")
        call.notice("afterwards")
    """)
    terminal.until(r"^\* train")
    terminal.go()
    terminal.until(r"^ 50 %$")
    terminal.go()
    terminal.until(r"^100 %\n\* train\(\) on cpu · N s$")
    terminal.go()
    terminal.end()
    assert terminal.lines == [
        "100 %",
        "no end of the line",
        "✓ train() on cpu · N s · http://host/run/1",
        "afterwards",
    ]


def test_what_the_program_prints_itself_lands_above_what_lives(
    open_terminal: Open,
) -> None:
    terminal = open_terminal("""
        call.begin("train() on cpu")
        print("a =", 1)
        print("careful", file=sys.stderr)
        go()
        call.launched("http://host/run/1")
        call.end("done")
        assert type(sys.stdout) is type(sys.stderr) is type(sys.__stdout__)
    """)
    terminal.until(r"^a = 1\ncareful\n\* train\(\) on cpu · N s$")
    terminal.go()
    terminal.end()
    assert terminal.lines == ["a = 1", "careful", "✓ train() on cpu · N s · http://host/run/1"]


def test_two_calls_at_once_have_a_line_each(open_terminal: Open) -> None:
    terminal = open_terminal("""
        other = terminal_progress("auto", dict(os.environ))
        call.begin("train() on cpu")
        other.begin("eval() on cpu")
        go()
        call.launched("http://host/run/1")
        call.end("done")
        go()
        other.launched("http://host/run/2")
        other.end("done")
    """)
    terminal.until(r"^\* train\(\) on cpu · N s\n\* eval\(\) on cpu · N s$")
    terminal.go()
    terminal.until(r"^✓ train\(\) on cpu · N s · http://host/run/1\n\* eval\(\) on cpu · N s$")
    terminal.go()
    terminal.end()
    assert terminal.lines == [
        "✓ train() on cpu · N s · http://host/run/1",
        "✓ eval() on cpu · N s · http://host/run/2",
    ]


@pytest.mark.parametrize("variables", [{"TERM": "dumb"}, {"CI": "true"}])
def test_nothing_lives_where_nobody_sees_it(variables: dict[str, str], open_terminal: Open) -> None:
    terminal = open_terminal(
        """
        call.begin("train() on cpu")
        call.launched("http://host/run/1")
        call.end("done")
        """,
        **variables,
    )
    terminal.end()
    assert terminal.lines == ["kinetic: ✓ train() on cpu · N s · http://host/run/1"]
    assert b"\x1b" not in terminal.raw


def test_there_are_no_colours_where_they_are_not_wanted(open_terminal: Open) -> None:
    terminal = open_terminal(
        """
        call.begin("train() on cpu")
        call.warning("careful")
        call.launched("http://host/run/1")
        call.end("done")
        """,
        NO_COLOR="1",
    )
    terminal.end()
    assert terminal.lines == ["warning: careful", "✓ train() on cpu · N s · http://host/run/1"]
    assert not re.search(rb"\x1b\[\d+m", terminal.raw)


def test_a_process_that_is_forked_meanwhile_prints_as_ever(open_terminal: Open) -> None:
    terminal = open_terminal("""
        import multiprocessing

        call.begin("train() on cpu")
        child = multiprocessing.get_context("fork").Process(target=print, args=("from the child",))
        child.start()
        child.join()
        assert child.exitcode == 0
        call.launched("http://host/run/1")
        call.end("done")
    """)
    terminal.end()
    assert any("from the child" in line for line in terminal.lines)
    assert terminal.lines[-1] == "✓ train() on cpu · N s · http://host/run/1"


def test_a_program_that_ends_in_the_middle_leaves_no_live_line(
    open_terminal: Open,
) -> None:
    terminal = open_terminal("""
        call.begin("train() on cpu")
    """)
    terminal.end()
    assert terminal.lines == []
