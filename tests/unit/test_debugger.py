"""What is sent along for a debugger, and what people are told of it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from corpus.dependencies.simple_index import SimpleIndex, serve, wheel
from kinetic_flows.core.errors import LockError, UsageError
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import DebugSpec, ObjectRef
from kinetic_flows.core.job_reading import read_job
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.watched_options import called_anew, refuse_debugger
from kinetic_flows.dependencies.debugger import debugger_wheel
from kinetic_flows.flows.debugger import tell_without_access
from kinetic_flows.runs.insight.debugger_words import (
    Attachable,
    configurations,
    editor_words,
    submitted_words,
)
from kinetic_flows.runs.insight.profile import HostProfile, RunProfile
from runner_jobs import Job

PURE = "py2.py3-none-any"
NATIVE = "cp311-cp311-manylinux_2_17_x86_64"


@contextmanager
def an_index(*tags: str) -> Iterator[tuple[SimpleIndex, Mapping[str, str]]]:
    """Yield an index that has wheels of the debugger for these tags, and variables for uv."""
    packages = [wheel("debugpy", "1.8.20", tag=tag) for tag in tags]
    with serve(packages) as index:
        yield index, {**os.environ, "UV_DEFAULT_INDEX": index.url}


def test_the_wheel_of_pure_python_is_found_once_and_kept(tmp_path: Path) -> None:
    again: dict[str, Any] = {"home": tmp_path / "home", "project_root": tmp_path}
    with an_index(NATIVE, PURE) as (index, environ):
        found = debugger_wheel(python="3.11", environ=environ, **again)
        assert found.filename == f"debugpy-1.8.20-{PURE}.whl"
        assert sha256_hex(found.path.read_bytes()) == found.sha256
        del index.files["debugpy"][found.filename]
        # From then on neither uv nor an index is needed, unless the file is not what it was.
        assert debugger_wheel(python="3.12", environ=environ, **again) == found
        found.path.write_bytes(b"")
        with pytest.raises(LockError, match="its index has no wheel of pure Python"):
            debugger_wheel(python="3.11", environ=environ, **again)


def test_without_an_index_that_has_it_the_error_says_what_to_do(tmp_path: Path) -> None:
    with (
        an_index() as (_, environ),
        pytest.raises(LockError, match="debug=True needs debugpy, which is not found") as failure,
    ):
        debugger_wheel(home=tmp_path, python="3.11", project_root=tmp_path, environ=environ)
    assert "add debugpy to the project's dependencies" in str(failure.value.hint)


def test_a_job_keeps_how_its_function_waits(tmp_path: Path) -> None:
    wheel = {"name": "wheels/a/b.whl", "sha256": "0" * 64, "size_bytes": 1}
    for reference in (wheel, None):
        job = Job(tmp_path, changes={"debug": {"wheel": reference, "wait_seconds": 5}})
        job.write()
        spec = DebugSpec(wheel=reference and ObjectRef(**reference), wait_seconds=5)  # type: ignore[arg-type]
        assert read_job(job.job_path.read_bytes()).template.debug == spec


def test_editors_are_told_where_to_go_and_where_files_are() -> None:
    words = editor_words("train", [Attachable(host=0, port=5678)], "/home/me/project")
    (entry,) = re.findall(r"^  (\{.*\})$", words, re.MULTILINE)
    assert json.loads(entry) == {
        "name": "kinetic: train",
        "type": "debugpy",
        "request": "attach",
        "connect": {"host": "127.0.0.1", "port": 5678},
        "pathMappings": [{"localRoot": "/home/me/project", "remoteRoot": "."}],
    }
    assert "Attach to DAP, with the remote address 127.0.0.1:5678" in words
    assert "compounds" not in words
    (unknown,) = configurations("train", [Attachable(host=0, port=1)], "")
    assert unknown["pathMappings"][0]["localRoot"] == "${workspaceFolder}"


def test_who_only_submits_is_told_the_command_that_leads_there() -> None:
    there = submitted_words("train", "9229eced", 1, "/p", is_here=False)
    assert there.endswith(
        "what leads there: kinetic runs forward 9229eced 5678, or whoever waits for the run's "
        "result"
    )
    several = submitted_words("train", "9229eced", 2, "/p", is_here=False)
    assert "kinetic runs forward 9229eced 5678 + N --host N" in several
    assert '"port": 5679' in several
    assert "forward" not in submitted_words("train", "9229eced", 1, "/p", is_here=True)


@pytest.mark.parametrize("why", ["debug", "profile"])
def test_who_watches_a_function_has_it_called(why: str) -> None:
    options = RunOptions(cache_for=timedelta(days=1), **{why: True})
    changed, told = called_anew(options)
    assert changed.cache_for is None
    assert told.startswith(f"cache_for does nothing with {why}=True: the function is called")
    plain = RunOptions(cache_for=timedelta(days=1))
    assert called_anew(plain) == (plain, "")
    assert called_anew(RunOptions(debug=True))[1] == ""


@pytest.mark.parametrize("may_see", [True, False])
def test_who_reaches_no_pod_is_told_before_a_run_waits(may_see: bool) -> None:
    told: list[str] = []

    class Told(NullProgress):
        def warning(self, text: str) -> None:
            told.append(text)

    platform: Any = SimpleNamespace(may_see_processes=may_see)
    tell_without_access(platform, Told())
    assert ["you have no access to the cluster" in each for each in told] == [True] * (not may_see)


def test_what_makes_many_runs_is_not_debugged() -> None:
    with pytest.raises(UsageError, match="map makes one run for each input"):
        refuse_debugger("map")
    with pytest.raises(UsageError, match="deploy makes runs that nobody waits for") as failure:
        refuse_debugger("deploy")
    assert "with_options(debug=False).deploy(...)" in str(failure.value.hint)


def test_a_profile_says_where_it_is_and_how_to_look_at_it() -> None:
    name = "profile/plugins/profile/s/host-0."
    files = (f"{name}trace.json.gz", f"{name}xplane.pb")
    host = HostProfile(host=0, tool="jax", seconds=10.0, files=files, size_bytes=4_100_000)
    there = RunProfile(run_id="9229eced-1", outputs="gs://b/o/", session="s", hosts=(host,))
    assert str(there).splitlines() == [
        "10.0 s of jax: 2 files, 4.1 MB",
        "in gs://b/o/profile",
        "copy:     kinetic runs outputs 9229eced-1 'profile/*' --to profile-9229eced",
        "XProf:    uvx xprof --logdir profile-9229eced/profile",
        f"Perfetto: open profile-9229eced/{name}trace.json.gz at https://ui.perfetto.dev",
    ]
    torch = HostProfile(host=1, tool="torch", files=(f"{name}pt.trace.json.gz",))
    lost = HostProfile(host=0, why_not="it is gone")
    here = RunProfile(run_id="9229eced", outputs="/o", session="s", hosts=(lost, torch))
    shown = str(here)
    assert shown.startswith("host 0: no profile: it is gone\nhost 1: 0.0 s of torch: 1 file")
    assert "copy" not in shown
    assert "XProf" not in shown
    assert here.document()["hosts"][0] == {"host": 0, "why_not": "it is gone"}
