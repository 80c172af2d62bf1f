"""Processes that compile for accelerators which are not there: their limits, and their ends."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner.rehearse_hints import hint_for, one_line
from kinetic_flows.runner_image.runner.rehearse_steps import NotKnown, steps_of

from kinetic_flows.core.job_parts import RehearsalSpec, RehearsalTarget
from kinetic_flows.core.rehearsals import TargetReport
from runner_jobs import Ended, Job

V5E = RehearsalTarget(
    accelerator="tpu-v5e-4", kind="tpu", topology="v5e:2x2", devices=4, device_memory_bytes=0
)


def rehearse(root: Path, source: str, **limits: Any) -> tuple[TargetReport, Ended]:
    """Rehearse for one accelerator; these rehearsals end before they would need a compiler."""
    spec = asdict(RehearsalSpec(targets=(V5E,), **limits))
    job = Job(root, source=source, changes={"rehearsal": spec})
    ended = job.run()
    (report,) = map(TargetReport.from_json, job.value())
    return report, ended


def runs(process: str) -> bool:
    """Whether a process has not ended; one that nobody has waited for has."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_process_that_takes_too_long_is_ended_with_all_that_it_has_started(
    tmp_path: Path,
) -> None:
    beside = tmp_path / "beside"
    source = f"""
        import subprocess, time
        child = subprocess.Popen(["sleep", "60"])
        away = subprocess.Popen(["sleep", "60"], start_new_session=True)
        open({str(beside)!r}, "w").write(f"{{child.pid}} {{away.pid}}")
        time.sleep(60)
    """
    report, _ = rehearse(tmp_path / "store", source, limit_seconds=1.0)
    assert (report.problem, report.message) == ("time", "the compiler took more than 1 s")
    assert not any(map(runs, beside.read_text().split()))


def test_code_that_ends_its_process_is_told_as_any_other_that_raises(tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    source = f"""
        import subprocess, sys
        open({str(beside)!r}, "w").write(str(subprocess.Popen(["sleep", "60"]).pid))
        sys.exit(3)
    """
    report, _ = rehearse(tmp_path / "store", source)
    assert report.problem == "function"
    assert "SystemExit: 3" in report.message
    # What it has started ends with it.
    assert not runs(beside.read_text())


def test_a_process_that_takes_too_much_memory_is_ended(tmp_path: Path) -> None:
    source = "import time\nheld = b'x' * (200 << 20)\ntime.sleep(60)"
    report, _ = rehearse(tmp_path, source, limit_memory_bytes=128 << 20)
    assert report.problem == "memory"
    assert "more than the 0.1 GiB of memory" in report.message
    assert "jax.eval_shape" in report.hint


def test_a_process_that_dies_is_told_with_what_its_libraries_have_printed_last(
    tmp_path: Path,
) -> None:
    source = """
        import os, signal, sys
        print("from Python", file=sys.stderr)
        os.write(2, b"from C: core dumped\\n")
        os.kill(os.getpid(), signal.SIGTERM)
    """
    report, ended = rehearse(tmp_path, source)
    assert report.problem == "died"
    assert report.message == "the compiling process ended by SIGTERM"
    assert "from Python" in ended.output
    assert "from C: core dumped" in ended.output


def test_a_project_that_cannot_be_imported_is_told_with_its_own_lines(tmp_path: Path) -> None:
    report, ended = rehearse(tmp_path, "import os\nos.write(2, b'noise')\nimport not_there")
    assert report.problem == "function"
    assert "ModuleNotFoundError: No module named 'not_there'" in report.message
    assert "lacks not_there" in report.hint
    assert 'File "app.py", line 3' in ended.output
    assert "noise" not in ended.output
    assert report.seconds > 0


def test_an_environment_without_a_compiler_says_what_it_lacks(tmp_path: Path) -> None:
    report, _ = rehearse(tmp_path, "def main(devices):\n return None")
    assert (report.problem, report.versions) == ("no-compiler", {})
    assert report.message == "the environment has no jax, so it cannot compile for TPUs"
    assert report.hint == "add jax[tpu] to the function's dependencies"


def test_what_is_told_has_no_secrets_and_stays_a_report(tmp_path: Path) -> None:
    spec = asdict(RehearsalSpec(targets=(V5E,)))
    source = "import os\nraise ValueError('for ' + os.environ['PIN'])"
    job = Job(tmp_path, source=source, sealed={"PIN": "accelerator"}, changes={"rehearsal": spec})
    job.run()
    (report,) = map(TargetReport.from_json, job.value())
    assert report.accelerator == "tpu-v5e-4"
    assert "ValueError: for ***" in report.message


class Lowers:
    """Something that can be lowered, as what jax.jit makes can."""

    def lower(self) -> None:
        raise NotImplementedError


STEP = Lowers()


@pytest.mark.parametrize(
    ("returned", "steps"),
    [
        (STEP, [("train", (), {})]),
        ((STEP, (1, 2)), [("train", (1, 2), {})]),
        ((STEP, {"x": 1}), [("train", (), {"x": 1})]),
        ((STEP, [1], {"x": 2}), [("train", (1,), {"x": 2})]),
        ({"a": STEP, "b": (STEP, (1,))}, [("a", (), {}), ("b", (1,), {})]),
    ],
)
def test_a_rehearsal_may_return_its_steps_in_several_ways(
    returned: Any, steps: list[tuple[Any, ...]]
) -> None:
    found = steps_of(returned, "train")
    assert [(each.name, each.args, each.kwargs) for each in found] == steps


@pytest.mark.parametrize(
    ("returned", "message", "hint"),
    [
        (None, "train is None, which has no .lower()", "return (step, args)"),
        (
            (rehearse, ()),
            "train is the function rehearse, which has no .lower()",
            "jax.jit(step)",
        ),
        ((STEP, 1), "the arguments of train are an int", "a single argument is written (x,)"),
        ((STEP, (), {}, 1), "train is 4 values", "return (step, args)"),
        ({}, "names no step", "a mapping of names"),
        (("text", ()), "train is a str", "return (step, args)"),
    ],
)
def test_what_is_no_step_is_told_in_words(returned: Any, message: str, hint: str) -> None:
    with pytest.raises(NotKnown) as raised:
        steps_of(returned, "train")
    assert raised.value.problem == "function"
    assert message in raised.value.message
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("Number of devices 4 must be >= the product of mesh_shape (8,)", "has 4 devices"),
        ("Number of devices 1 must be >= the product of mesh_shape (4,)", "devices=devices"),
        ("global size of its dimension 0 should be divisible by 4", "divide by the mesh's axes"),
        ("MakeArrays not available with compile-only client.", "give shapes"),
        ("Cannot lower pallas_call on platform: gpu. To use Pallas on GPU, ...", "add absl-py"),
        ("Unsupported algorithm on the current device(s): ALG_DOT_BF16_BF16_F32", "later GPU"),
        ("something else", ""),
    ],
)
def test_what_jax_says_of_meshes_arrays_and_gpus_has_a_hint(message: str, hint: str) -> None:
    found = hint_for(ValueError(message), 4)
    assert hint in found
    assert bool(hint) == bool(found)


def test_a_long_message_is_told_by_its_beginning() -> None:
    error = ValueError("\n\nfirst\n  second\nthird")
    assert one_line(error) == "ValueError: first second"
    assert len(one_line(ValueError("x" * 5000))) < 600
