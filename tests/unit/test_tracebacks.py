"""What a run shows of an exception names the files and lines that the person has."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from kinetic_flows.runner_image.runner.shown_paths import ShownPaths

from elsewhere import call_in_a_runner
from kinetic_flows.code.remote_traceback import split_frames

FORGETFUL = """
    import cloudpickle
    from types import CodeType

    reduce_code = cloudpickle.Pickler.dispatch_table[CodeType]

    def without_file(code):
        # What cloudpickle 3.1.3 does, whatever version is installed.
        return reduce_code(code.replace(co_filename="<dynamic-code>"))

    cloudpickle.Pickler.dispatch_table.maps[0][CodeType] = without_file
"""
LIB = """
    def divide(value):
        return value / 0  # in the module
"""
SCRIPT = """
    import sys, threading, traceback, logging, inspect, linecache
    import forgetful  # noqa
    from lib import divide

    class Model:
        def fit(self, value):
            return divide(value)  # in the script

    def train(value):
        try:
            Model().fit(value)
        except ZeroDivisionError:
            logging.exception("logged")
        thread = threading.Thread(target=lambda: divide("thread"))  # of the thread
        thread.start()
        thread.join()
        line = linecache.getline(train.__code__.co_filename, train.__code__.co_firstlineno)
        print("first line:", line.strip())
        print("source:", inspect.getsource(Model.fit).splitlines()[1].strip())
        Model().fit(value)  # at last

    if __name__ == "__main__":
        from packing import pack
        pack(train, 1)
"""


@pytest.mark.parametrize("how", [["main.py"], ["-m", "main"]], ids=["script", "module"])
@pytest.mark.parametrize("forgetful", [FORGETFUL, ""], ids=["3.1.3", "3.1.2"])
def test_tracebacks_name_the_files_and_lines_of_the_project(
    tmp_path: Path, how: list[str], forgetful: str
) -> None:
    files = {"requirements.txt": "", "lib.py": LIB, "main.py": SCRIPT, "forgetful.py": forgetful}
    job, ended = call_in_a_runner(tmp_path, files, *how)
    project = tmp_path / "project"
    text = job.envelope().header.traceback
    lines = [line for line in text.splitlines() if line.strip("~^ ")]
    assert lines == [
        "Traceback (most recent call last):",
        f'  File "{project}/main.py", line 21, in train',
        "    Model().fit(value)  # at last",
        f'  File "{project}/main.py", line 8, in fit',
        "    return divide(value)  # in the script",
        f'  File "{project}/lib.py", line 3, in divide',
        "    return value / 0  # in the module",
        "ZeroDivisionError: division by zero",
    ]
    assert text in ended.output
    assert "first line: def train(value):" in ended.output
    assert "source: return divide(value)  # in the script" in ended.output
    assert ended.output.count(f'  File "{project}/lib.py", line 3, in divide') == 3
    assert "/workspace/" not in ended.output


CELL = """
    import linecache, sys
    from types import ModuleType

    main = sys.modules["__main__"]

    def run_cell(name, text):
        # As IPython does: the lines are known to linecache alone.
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        exec(compile(text, name, "exec"), vars(main))
"""


def test_cells_of_a_notebook_show_their_lines_and_nothing_else_of_theirs(tmp_path: Path) -> None:
    cell = (
        "TOKEN = 'do not tell'\\n"
        "def train(value):\\n"
        "    import inspect\\n"
        "    print(inspect.getsource(train))\\n"
        "    return value / 0  # in the cell\\n"
        "AFTER = 1\\n"
    )
    code = (
        "from cells import run_cell\nimport forgetful\nfrom packing import pack\n"
        f"run_cell('<ipython-input-1-abc>', \"{cell}\")\npack(train, 1)\n"
    )
    files = {"requirements.txt": "", "cells.py": CELL, "forgetful.py": FORGETFUL}
    job, ended = call_in_a_runner(tmp_path, files, "-c", code)
    assert job.envelope().header.traceback.splitlines()[1:3] == [
        '  File "<ipython-input-1-abc>", line 5, in train',
        "    return value / 0  # in the cell",
    ]
    assert "    return value / 0  # in the cell" in ended.output
    (payload,) = (tmp_path / "store" / "runs").rglob("payload.pkl")
    assert b"in the cell" in payload.read_bytes()
    assert b"do not tell" not in payload.read_bytes()


HERE, ROOT = "/tmp/kinetic/workspace", "/home/me/project"
PRINTED = (
    f'  File "{HERE}/a.py", line 1\nsaved to {HERE}/a.py\nFi\n  File "{HERE}/b.py", line 2\nFile "'
)
SHOWN = (
    f'  File "{ROOT}/a.py", line 1\nsaved to {HERE}/a.py\nFi\n  File "{ROOT}/b.py", line 2\nFile "'
)


@pytest.mark.parametrize("size", [1, 2, 7, 31, 1000])
def test_output_is_rewritten_wherever_it_is_cut(size: int) -> None:
    paths, data = ShownPaths(HERE, ROOT), PRINTED.encode()
    shown = b"".join(paths.feed(data[at : at + size]) for at in range(0, len(data), size))
    assert shown + paths.flush() == SHOWN.encode()
    assert paths.flush() == b""


def test_without_a_directory_files_are_named_by_their_place_in_the_project() -> None:
    assert ShownPaths(HERE, "").text(f'  File "{HERE}/pkg/a.py", line 1') == (
        '  File "pkg/a.py", line 1'
    )


def test_a_message_of_megabytes_is_shown_in_part_and_comes_back_whole(tmp_path: Path) -> None:
    script = "from packing import pack\n\ndef train():\n    raise ValueError('x' * 3_000_000)\n"
    files = {"requirements.txt": "", "main.py": f"{script}\npack(train)\n"}
    job, ended = call_in_a_runner(tmp_path, files, "main.py")
    assert "xxx… (3000013 characters)" in ended.output
    assert len(ended.output) < 30_000
    pickled, frames = split_frames(job.envelope().body)
    assert len(str(pickle.loads(pickled))) == 3_000_000
    assert frames is not None
    assert "ValueError" in job.envelope().header.traceback
