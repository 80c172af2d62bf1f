"""Tracebacks of a run are this process's own once its result is read."""

from __future__ import annotations

import linecache
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner import frames as runner_frames
from kinetic_flows.runner_image.runner.frames import frames_after
from kinetic_flows.runner_image.runner.raised import pickle_exception
from kinetic_flows.runner_image.runner.shown_paths import ShownPaths

from kinetic_flows.code import remote_traceback
from kinetic_flows.code.remote_traceback import RemoteFrames, split_frames
from kinetic_flows.code.unpickling import load_raised
from kinetic_flows.core.envelope import ResultEnvelope, ResultHeader
from kinetic_flows.core.errors import RunFailed
from kinetic_flows.core.job import RunTicket
from kinetic_flows.runs.results import unpack_result


def _divide(value: int) -> float:
    return 1 + value / 0


def _plain() -> None:
    _divide(1)


def _caused() -> None:
    try:
        _divide(2)
    except ZeroDivisionError as error:
        error.add_note("in the first place")
        raise RuntimeError("then") from error


def _handled() -> None:
    try:
        {}["rate"]
    except KeyError:
        (lambda: _divide(3))()


def _suppressed() -> None:
    try:
        _divide(4)
    except ZeroDivisionError:
        raise ValueError("instead") from None


def _grouped() -> None:
    errors: list[Exception] = []
    for raising in (_plain, _caused):
        try:
            raising()
        except Exception as error:  # noqa: BLE001
            errors.append(error)
    raise ExceptionGroup("several", [*errors, ExceptionGroup("within", [TypeError("alone")])])


def _many_lines() -> None:
    _divide(
        len(
            "over lines",
        )
    )


def _endless(depth: int = 0) -> None:
    _endless(depth + 1)


def raised_by(function: Any) -> BaseException:
    try:
        function()
    except BaseException as error:  # noqa: BLE001
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        return error
    raise AssertionError("it returned")


def body_of(error: BaseException, shown: Any = str) -> bytes:
    return pickle_exception(error) + frames_after(error, error.__traceback__, shown)


def arrived(body: bytes) -> BaseException:
    pickled, frames = split_frames(body)
    error, _ = load_raised(pickled)
    assert error is not None
    assert frames is not None
    frames.dress(error)
    return error.with_traceback(frames.trace())


@pytest.mark.parametrize(
    "function",
    [_plain, _caused, _handled, _suppressed, _grouped, _many_lines, _endless],
    ids=lambda function: function.__name__,
)
def test_it_is_shown_as_it_was_there(function: Any) -> None:
    error = raised_by(function)
    there = traceback.format_exception(error)
    assert traceback.format_exception(arrived(body_of(error))) == there


def test_the_interpreter_leaves_lines_of_a_recursion_out() -> None:
    trace = arrived(body_of(raised_by(_endless))).__traceback__
    codes = {frame.f_code for frame, _ in traceback.walk_tb(trace)}
    assert len(codes) == 1, "it compares code, not text"


def test_both_sides_agree() -> None:
    assert runner_frames.FRAMES_MAGIC == remote_traceback.FRAMES_MAGIC
    assert runner_frames.LINE_CHARACTERS == remote_traceback.LINE_CHARACTERS


def test_who_reads_the_pickle_alone_finds_it() -> None:
    body = body_of(raised_by(_plain))
    assert isinstance(pickle.loads(body), ZeroDivisionError)
    assert split_frames(pickle.dumps(1)) == (pickle.dumps(1), None)
    assert split_frames(b"") == (b"", None)


def test_exceptions_that_lead_to_one_another_are_told_once() -> None:
    first, second = raised_by(_plain), raised_by(_caused)
    first.__context__, second.__context__ = second, first
    assert frames_after(first, first.__traceback__, str)


def of_module(folder: Path, text: str) -> BaseException:
    """Return what a file raises."""
    file = folder / "model.py"
    file.write_text(text)
    return raised_by(lambda: exec(compile(text, str(file), "exec"), {}))


def test_files_are_named_as_they_are_here(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "workspace"
    for folder in (here, there):
        folder.mkdir()
        (folder / "model.py").write_text("1 / 0\n")
    error = of_module(there, "1 / 0\n")
    shown = ShownPaths(str(there), str(here)).file
    text = "".join(traceback.format_exception(arrived(body_of(error, shown))))
    assert f'File "{here}/model.py", line 1, in <module>\n    1 / 0\n' in text
    assert "workspace" not in text


def test_lines_of_files_that_are_not_here_are_shown(tmp_path: Path) -> None:
    error = of_module(tmp_path, "def fit():\n    raise ValueError(1)  # in an image\n\n\nfit()\n")
    body = body_of(error)
    (tmp_path / "model.py").unlink()
    linecache.clearcache()
    text = "".join(traceback.format_exception(arrived(body)))
    assert f'File "{tmp_path}/model.py", line 2, in fit\n    raise ValueError(1)' in text
    assert "line 5, in <module>\n    fit()\n" in text


def test_a_file_that_has_changed_since_is_told_with_its_line() -> None:
    told = {"file": __file__, "line": 1, "text": '"""Tracebacks of a run …"""'}
    same = {"file": __file__, "line": 2, "text": ""}
    frames = RemoteFrames(host="", tree={"frames": [told, same]})
    assert frames.changes() == [
        f'{__file__} has changed since: its line 1 was `"""Tracebacks of a run …"""`'
    ]


def test_a_long_line_that_is_told_in_part_has_not_changed(tmp_path: Path) -> None:
    error = of_module(tmp_path, f"raise ValueError(1)  # {'long ' * 200}\n")
    _, frames = split_frames(body_of(error))
    assert frames is not None
    assert frames.changes() == []


@pytest.mark.parametrize("place", [[1, 3, 2], [9, 8, 2], [7, 5, 1]])
def test_a_frame_at_a_place_that_cannot_be_is_shown_by_its_line(place: list[int]) -> None:
    told = {
        "file": "made.py",
        "name": "fit",
        "first_line": 1,
        "line": 7,
        "text": "",
        "place": place,
    }
    trace = RemoteFrames(host="", tree={"frames": [told]}).trace()
    (shown,) = traceback.extract_tb(trace)
    assert (shown.filename, shown.lineno, shown.name) == ("made.py", 7, "fit")


RUN = RunTicket(run_id="run-1", name="train(rate=0.1)", run_key="ab" * 32)


def unpacked(body: bytes, **fields: str) -> Exception:
    header = ResultHeader(run_id="run-1", status="raised", **fields)  # type: ignore[arg-type]
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        unpack_result(ResultEnvelope(header=header, body=body), RUN, url="https://prefect/run-1")
    return caught.value


def test_it_says_at_its_end_where_it_was_raised() -> None:
    error = unpacked(body_of(raised_by(_plain)), traceback="as it was printed")
    assert error.__notes__ == ["raised by train(rate=0.1) in its run: https://prefect/run-1"]
    names = [each.name for each in traceback.extract_tb(error.__traceback__)]
    assert names[-2:] == ["_plain", "_divide"]


def test_one_that_cannot_be_made_again_is_told_with_what_was_printed() -> None:
    error = raised_by(_plain)
    body = frames_after(error, error.__traceback__, str)
    failure = unpacked(body, type_name="lib.Odd", message="bad", traceback="as it was printed")
    assert isinstance(failure, RunFailed)
    assert failure.remote_traceback == "as it was printed"
