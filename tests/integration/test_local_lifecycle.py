"""Whole programs: a project as a person has it, concurrent calls, and clients that die."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from newest_runs import newest_run
from projects import Project, make_project

from kinetic_flows.clients.prefect.api import PrefectApi, connect

MAIN = """
    import sys

    import kinetic
    from helpers.text import shout

    @kinetic.run()
    def describe(count):
        import humanize
        from mathematics import double

        return shout(humanize.intcomma(double(count))) + open("data/suffix.txt").read()

    if __name__ == "__main__":
        print("value:", describe(int(sys.argv[1])))
"""

PROJECT = {
    "requirements.txt": "humanize==4.12.3\n",
    "main.py": MAIN,
    "helpers/__init__.py": "",
    "helpers/text.py": "def shout(text):\n    return text.upper() + '!'\n",
    "src/mathematics.py": "def double(value):\n    return 2 * value\n",
    "data/suffix.txt": "?",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefect_api_url: str) -> Project:
    return make_project(tmp_path / "project", monkeypatch, PROJECT)


def _environments(home: Path) -> list[Path]:
    return [path for path in (home / "environments").glob("cpu-*") if path.is_dir()]


def _home() -> Path:
    return Path(os.environ["KINETIC_HOME"])


def _wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def began() -> None:
    """Note when a test began: what others left unfinished is not its own."""
    global _began
    _began = datetime.now(UTC)


_began = datetime.now(UTC)


def _unfinished(api_url: str) -> int:
    with connect(api_url) as api:
        return _count_unfinished(api)


def _count_unfinished(api: PrefectApi) -> int:
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    states = {
        "state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}},
        "expected_start_time": {"after_": _began.isoformat()},
    }
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(states),
            sort=FlowRunSort.NAME_ASC,
            limit=200,
        )
        return len(found)


def test_a_project_with_packages_a_src_layout_and_data_runs_as_a_script(project: Project) -> None:
    first = project.python("main.py", "5000", PYTHONPATH="src")
    assert first.stdout.endswith("value: 10,000!?\n"), first.stderr
    second = project.python("main.py", "5001", PYTHONPATH="src", KINETIC_PROGRESS="verbose")
    assert second.stdout.endswith("value: 10,002!?\n"), second.stderr
    assert "build-image" in second.stderr
    assert "cached" in second.stderr
    assert len(_environments(_home())) == 1


def test_a_function_typed_into_python_c_runs(project: Project) -> None:
    code = "import kinetic; f = kinetic.run(requirements=[])(lambda x: x * 2); print(f(21))"
    shown = project.python("-c", code)
    assert shown.stdout.endswith("42\n"), shown.stderr


def test_a_module_of_a_package_run_with_m_runs(project: Project) -> None:
    project.write(
        {
            "tools/__init__.py": "",
            "tools/job.py": """
                import kinetic
                from helpers.text import shout

                @kinetic.run(requirements=[])
                def job(word):
                    return shout(word)

                if __name__ == "__main__":
                    print(job("yes"))
            """,
        }
    )
    shown = project.python("-m", "tools.job")
    assert shown.stdout.endswith("YES!\n"), shown.stderr


def test_a_script_that_writes_into_its_own_project_runs(project: Project) -> None:
    project.write(
        {
            "main.py": """
                import logging
                import sqlite3
                import threading
                from itertools import count
                from pathlib import Path

                import kinetic

                logging.basicConfig(filename="app.log", level=logging.DEBUG)
                done = threading.Event()

                def track():
                    table = sqlite3.connect("tracker.db", isolation_level=None)
                    table.execute("create table steps (number)")
                    for number in count():
                        table.execute("insert into steps values (?)", [number])
                        logging.info("step %s", number)
                        Path("state.json").write_text(f'{{"number": {number}}}')
                        if done.wait(0.001):
                            table.close()
                            return

                @kinetic.run(requirements=[])
                def sizes():
                    return {path.name: path.stat().st_size for path in Path().iterdir()}

                if __name__ == "__main__":
                    tracker = threading.Thread(target=track)
                    tracker.start()
                    try:
                        for _ in range(2):
                            print("value:", sorted(sizes()), flush=True)
                    finally:
                        done.set()
                        tracker.join()
            """
        }
    )
    code = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, 'main.py'], "
    code += "stdout=open('log.txt', 'w'), stderr=subprocess.STDOUT))"
    ended = project.python("-c", code)
    log = (project.root / "log.txt").read_text()
    assert ended.returncode == 0, log
    values = [line for line in log.splitlines() if line.startswith("value:")]
    assert len(values) == 2
    assert all("'app.log'" in value and "'log.txt'" in value for value in values), log


def test_a_script_in_a_home_directory_runs_without_the_rest_of_it(project: Project) -> None:
    project.write(
        {
            "t.py": """
                import os

                import kinetic

                @kinetic.run(requirements=[])
                def found():
                    there = sorted(name for _, _, files in os.walk(".") for name in files)
                    from nearby import NAME
                    return NAME, there

                if __name__ == "__main__":
                    print("value:", found())
            """,
            "nearby.py": "NAME = 'nearby'",
            "photos/me.jpg": "",
            ".aws/credentials": "",
        }
    )
    cache = os.environ.get("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))
    shown = project.python("t.py", HOME=str(project.root), UV_CACHE_DIR=cache)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.endswith("value: ('nearby', ['nearby.py', 't.py'])\n")
    assert "only t.py and what it imports ships, as it is a home directory" in shown.stderr


def test_a_class_defined_in_the_script_survives_the_round_trip(project: Project) -> None:
    project.write(
        {
            "main.py": """
                from dataclasses import dataclass

                import kinetic

                @dataclass
                class Point:
                    x: int

                @kinetic.run(requirements=[])
                def move(point):
                    return Point(point.x + 1)

                if __name__ == "__main__":
                    moved = move(Point(1))
                    print(type(moved) is Point, moved)
            """
        }
    )
    shown = project.python("main.py")
    assert shown.stdout.endswith("True Point(x=2)\n"), shown.stderr


def test_ten_concurrent_submissions_make_one_environment_and_all_return(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETIC_QUIET", "1")
    project.write(
        {
            "crowd.py": """
                import kinetic

                @kinetic.run()
                def square(value):
                    import humanize
                    return value * value
            """
        }
    )
    square = project.module("crowd").square
    with ThreadPoolExecutor(10) as pool:
        runs = list(pool.map(square.submit, range(10)))
    assert [run.result(timeout_seconds=600) for run in runs] == [n * n for n in range(10)]
    assert len(_environments(_home())) == 1


def test_a_client_killed_while_it_makes_the_environment_leaves_nothing_broken(
    project: Project, prefect_api_url: str
) -> None:
    client = project.start("main.py", "1", PYTHONPATH="src")
    _wait_until(lambda: any((_home() / "environments").glob(".making-*")))
    _kill(client)
    again = project.python("main.py", "2", PYTHONPATH="src")
    assert again.stdout.endswith("value: 4!?\n"), again.stderr
    assert not list((_home() / "environments").glob(".making-*"))
    _wait_until(lambda: _unfinished(prefect_api_url) == 0)


def test_a_client_killed_while_it_uploads_leaves_nothing_broken(
    project: Project, prefect_api_url: str
) -> None:
    for number in range(12):
        (project.root / f"asset-{number}.bin").write_bytes(os.urandom(16_000_000))
    packs = _home() / "store" / "packs"
    client = project.start("main.py", "1", PYTHONPATH="src")
    _wait_until(lambda: packs.exists() and any(packs.iterdir()))
    _kill(client)
    assert len(list(packs.iterdir())) < 12, "the client was killed too late to prove anything"
    again = project.python("main.py", "2", PYTHONPATH="src")
    assert again.stdout.endswith("value: 4!?\n"), again.stderr
    _wait_until(lambda: _unfinished(prefect_api_url) == 0)


def test_a_client_killed_while_its_function_runs_does_not_stop_it(
    project: Project, prefect_api_url: str
) -> None:
    project.write(
        {
            "main.py": """
                import sys, time
                from pathlib import Path

                import kinetic

                @kinetic.run(requirements=[])
                def slow(directory):
                    Path(directory, "started").touch()
                    while not Path(directory, "go").exists():
                        time.sleep(0.05)
                    Path(directory, "done").touch()

                if __name__ == "__main__":
                    slow(sys.argv[1])
            """
        }
    )
    client = project.start("main.py", str(project.root))
    _wait_until((project.root / "started").exists)
    _kill(client)
    (project.root / "go").touch()
    _wait_until((project.root / "done").exists)
    shown = project.python(
        "-c", "import kinetic; print([r.state for r in kinetic.list_runs()][:1])"
    )
    assert shown.stdout.endswith("['Completed']\n"), shown.stderr
    _wait_until(lambda: _unfinished(prefect_api_url) == 0)


def test_a_runner_killed_unseen_ends_as_crashed_when_anyone_looks(
    project: Project, prefect_api_url: str
) -> None:
    project.write(
        {
            "main.py": """
                import sys, time
                import kinetic

                @kinetic.run(requirements=[])
                def endless():
                    time.sleep(600)

                if __name__ == "__main__":
                    print(endless.submit().id)
            """
        }
    )
    submitted = project.python("main.py")
    run_id = submitted.stdout.split()[-1]
    record = _home() / "runs" / run_id / "process.json"
    import json

    os.killpg(json.loads(record.read_text())["pid"], signal.SIGKILL)
    shown = project.python("-c", f"import kinetic; print(kinetic.attach({run_id!r}).state)")
    assert shown.stdout.endswith("Crashed\n"), shown.stderr
    _wait_until(lambda: _unfinished(prefect_api_url) == 0)


@pytest.mark.parametrize("mode", ["blocking", "async"])
def test_ctrl_c_cancels_the_remote_run_and_says_so(
    mode: str, project: Project, prefect_api_url: str
) -> None:
    project.write(
        {
            "main.py": """
                import asyncio, sys, time
                from pathlib import Path

                import kinetic

                @kinetic.run(requirements=[])
                def endless(path):
                    Path(path).touch()
                    time.sleep(600)

                @kinetic.run(requirements=[])
                async def endless_async(path):
                    Path(path).touch()
                    await asyncio.sleep(600)

                if __name__ == "__main__":
                    if sys.argv[2] == "async":
                        asyncio.run(endless_async(sys.argv[1]))
                    endless(sys.argv[1])
            """
        }
    )
    client = project.start("main.py", str(project.root / "started"), mode)
    _wait_until((project.root / "started").exists)
    client.send_signal(signal.SIGINT)
    shown, _ = client.communicate(timeout=60)
    assert "cancelling run" in shown
    assert "KeyboardInterrupt" in shown
    _wait_until(lambda: _unfinished(prefect_api_url) == 0)
    with connect(prefect_api_url) as api:
        assert newest_run(api).state_type == "CANCELLED"


def _kill(client: subprocess.Popen[str]) -> None:
    os.killpg(client.pid, signal.SIGKILL)
    client.communicate()
