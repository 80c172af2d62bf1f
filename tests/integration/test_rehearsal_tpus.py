"""Steps compiled for TPUs that are not there, with the compiler that is in libtpu."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from kinetic_flows.core.job_parts import RehearsalSpec, RehearsalTarget
from kinetic_flows.core.rehearsals import StepReport, TargetReport
from kinetic_flows.dependencies.uv import find_uv
from runner_jobs import Job, start_runner, wait

LOCKS = Path(__file__).parents[2] / "runner_image" / "base-locks"
GIB = 1 << 30
H100_BYTES = 84_942_979_072

# Sizes are of one device: what is `large` takes 48 GiB, what is `larger` 120.
SIZES = """
import jax
import jax.numpy as jnp
import numpy
from jax.sharding import Mesh, NamedSharding, PartitionSpec

GIB = 1 << 30

def train(w, x):
    h = jnp.tanh(x @ w)
    return h.astype(jnp.float32).sum(), w + (h.T @ x).T

def double(x):
    return x * 2

def main(devices):
    print("named for", len(devices))
    mesh = Mesh(numpy.array(devices), ("data",))
    each, whole = (NamedSharding(mesh, PartitionSpec(*axis)) for axis in (["data"], []))
    def shape(*sides, place):
        return jax.ShapeDtypeStruct(sides, jnp.bfloat16, sharding=place)
    weights = shape(256, 256, place=whole)
    batch = shape(256 * len(devices), 256, place=each)
    return {
        "small": (jax.jit(train), {"w": weights, "x": batch}),
        "large": (jax.jit(double), (shape(12 * GIB * len(devices), place=each),)),
        "larger": (jax.jit(double), (shape(30 * GIB * len(devices), place=each),)),
    }
"""

# Each step is wrong in a way of its own.
WRONG = """
import jax
import jax.numpy as jnp
import numpy
from jax.sharding import SingleDeviceSharding

def branches(x):
    return x if x.sum() > 0 else -x

def calls(x):
    jax.debug.callback(print, x.sum())
    return x

def main(devices):
    here = SingleDeviceSharding(devices[0])
    x = jax.ShapeDtypeStruct((8, 128), jnp.float32, sharding=here)
    elsewhere = jax.ShapeDtypeStruct(
        (8, 128), jnp.float32, sharding=SingleDeviceSharding(jax.devices("cpu")[0])
    )
    nowhere = jax.ShapeDtypeStruct((8, 128), jnp.float32)
    return {
        "branches": (jax.jit(branches), (x,)),
        "mixes": (jax.jit(jnp.add), (x, elsewhere)),
        "elsewhere": (jax.jit(jnp.negative), (elsewhere,)),
        "nowhere": (jax.jit(jnp.negative), (nowhere,)),
        "calls": (jax.jit(calls), (x,)),
        "made": (jax.jit(lambda a, b: a[0, 0] + b), (numpy.zeros((1 << 12, 1 << 12)), x)),
    }
"""

SCRIPT = """
import functools
import io
import pickle
from pathlib import Path

import jax
from kinetic_flows.code.pickled import pickle_into
from kinetic_flows.code.root import find_package_root

@functools.partial(jax.jit, static_argnames="times")
def inner(x, times):
    return x * times

@jax.jit
def step(x):
    return inner(x, times=2)

def main(devices):
    return step, jax.ShapeDtypeStruct((4, 4), "float32")

root = find_package_root(main, override=None, cwd=Path.cwd(), sys_path=[])
made = pickle_into(io.BytesIO, main, root).file.getvalue()
here = step
del main, step, inner
there, shape = pickle.loads(made)([])
assert there is not here
print(there.__name__, there.lower(shape).out_info.shape)
"""


def target(
    topology: str, devices: int, chips: tuple[int, ...], slices: int = 1, chip_config: str = ""
) -> RehearsalTarget:
    """Return a target that is named as its compiler names it."""
    return RehearsalTarget(
        accelerator=topology,
        kind="tpu",
        topology=topology,
        devices=devices,
        device_memory_bytes=0,
        chips_per_host=chips,
        slices=slices,
        chip_config=chip_config,
    )


class Rehearsed:
    """A rehearsal that a runner has made."""

    def __init__(self, root: Path, python: Path, source: str, *targets: RehearsalTarget) -> None:
        spec = asdict(RehearsalSpec(targets=targets))
        job = Job(root, source=source, changes={"rehearsal": spec})
        ended = wait(start_runner(job.write(), python=python), 300)
        assert ended.exit_code == 0, ended.output
        self.output = ended.output
        self.reports = {each.accelerator: each for each in map(TargetReport.from_json, job.value())}

    def step(self, accelerator: str, name: str) -> StepReport:
        """Return what is known of a step."""
        report = self.reports[accelerator]
        return next(each for each in report.steps if each.name == name)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment as runs on TPUs have it."""
    place = tmp_path_factory.mktemp("tpu") / "env"
    lock = LOCKS / f"tpu-py{sys.version_info.major}.{sys.version_info.minor}.txt"
    uv, python = find_uv(), place / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, place], check=True)
    install = [uv, "pip", "install", "-q", "--python", python, "-c", lock]
    subprocess.run([*install, "jax[tpu]", "cloudpickle"], check=True)
    return python


@pytest.fixture(scope="module")
def sizes(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Rehearsed:
    """Steps of three sizes on each generation, and on two slices of four hosts each."""
    return Rehearsed(
        tmp_path_factory.mktemp("store"),
        python,
        SIZES,
        target("v5e:2x2", 4, (2, 2)),
        target("v5p:2x2x1", 4, (2, 2, 1)),
        target("tpu7x:2x2x1", 8, (2, 2, 1)),
        target("v6e:4x4", 32, (2, 2), slices=2),
    )


@pytest.fixture(scope="module")
def wrong(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Rehearsed:
    """Steps that nothing can be made of, and an accelerator that nobody knows."""
    root = tmp_path_factory.mktemp("store")
    # Two cores of a chip are one device there, if the compiler is told so.
    v4 = target("v4:2x2x1", 4, (2, 2, 1), chip_config="megacore")
    return Rehearsed(root, python, WRONG, v4, target("v9:2x2", 4, (2, 2)))


@pytest.mark.parametrize(
    ("accelerator", "gib", "verdicts"),
    [
        ("v5e:2x2", 15.75, ["fits", "exceeds", "exceeds"]),
        ("v5p:2x2x1", 95.74, ["fits", "fits", "exceeds"]),
        ("tpu7x:2x2x1", 94.75, ["fits", "fits", "exceeds"]),
        ("v6e:4x4", 31.25, ["fits", "exceeds", "exceeds"]),
    ],
)
def test_the_compiler_of_each_generation_says_what_fits_its_memory(
    sizes: Rehearsed, accelerator: str, gib: float, verdicts: list[str]
) -> None:
    steps = sizes.reports[accelerator].steps
    assert [step.verdict for step in steps] == verdicts
    assert {step.memory.available_bytes for step in steps} == {int(gib * GIB)}
    needed = [round((step.memory.needed_bytes or 0) / GIB) for step in steps]
    assert needed == [0, 48, 120]


def test_a_step_that_fits_is_described_with_the_lines_of_its_source(sizes: Rehearsed) -> None:
    step = sizes.step("v5e:2x2", "small")
    found = {(each.operation, each.kind): each for each in step.buffers}
    assert found["x", "argument"].shape == "bf16[256,256]"
    assert {each.source for each in step.buffers if each.kind != "argument"} <= {
        "app.py:10",
        "app.py:11",
    }
    # Two products of 256x256 matrices on each device, of which one is added up by all.
    assert step.flops == pytest.approx(2 * 2 * 256**3, rel=0.1)
    assert [each.operation for each in step.collectives] == ["all-reduce"]
    assert step.collectives[0].size_bytes == pytest.approx(2 * 256 * 256, rel=0.1)
    assert step.compile_seconds


def test_what_does_not_fit_is_described_by_a_generation_with_more_memory(
    sizes: Rehearsed,
) -> None:
    for accelerator in ("v5e:2x2", "v6e:4x4"):
        step = sizes.step(accelerator, "large")
        assert [(each.kind, each.size_bytes // GIB) for each in step.buffers] == [
            ("argument", 24),
            ("output", 24),
        ]
        assert step.buffers[1].source == "app.py:14"
        assert step.memory.arguments_bytes == 24 * GIB
        assert "exceeds available HBM" in step.message
        assert "those of the same step on v5p" in step.message
    # Of what no TPU has room for, there are the arguments.
    (argument,) = sizes.step("v5e:2x2", "larger").buffers
    assert argument.size_bytes == 60 * GIB
    assert (argument.operation, argument.shape) == ("args[0]", f"bf16[{30 * GIB}]")


def test_a_rehearsal_prints_what_it_prints_once_and_libtpu_nothing(sizes: Rehearsed) -> None:
    named = [line for line in sizes.output.splitlines() if line.startswith("named for")]
    assert named == [f"named for {devices}" for devices in (4, 4, 8, 32)]
    assert "libtpu" not in sizes.output


def test_a_step_that_cannot_be_compiled_says_why_and_what_to_do(wrong: Rehearsed) -> None:
    hints = {
        "branches": ("TracerBoolConversionError", "use jax.lax.cond or jnp.where"),
        "mixes": ("incompatible devices", "from the devices that the rehearsal is given"),
        "elsewhere": ("other devices than the accelerator's", "of the devices that the"),
    }
    for name, (message, hint) in hints.items():
        step = wrong.step("v4:2x2x1", name)
        assert (step.verdict, step.name) == ("failed", name)
        assert message in step.message
        assert hint in step.hint
    # Where it stands in the project; frames of the runner are nobody's.
    assert 'app.py", line 8, in branches' in wrong.output
    assert "rehearse_" not in wrong.output


def test_what_is_odd_about_a_step_is_told_beside_it(wrong: Rehearsed) -> None:
    report = wrong.reports["v4:2x2x1"]
    assert [step.name for step in report.steps if step.verdict == "fits"] == [
        *("nowhere", "calls", "made"),
    ]
    told = "\n".join(report.warnings)
    assert "nowhere: it uses 1 of 4 devices" in told
    assert "calls: it calls Python on its host each time" in told
    assert "made: 0.1 GB of its arguments are arrays" in told


def test_a_topology_that_libtpu_does_not_know_is_told_with_its_version(wrong: Rehearsed) -> None:
    report = wrong.reports["v9:2x2"]
    assert (report.problem, report.steps) == ("unknown-topology", ())
    assert f"libtpu {report.versions['libtpu']}" in report.message
    assert "newer jax[tpu]" in report.hint


def test_a_jitted_function_of_a_script_has_all_that_it_had_where_it_is_unpickled(
    python: Path, tmp_path: Path
) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environ = {"PYTHONPATH": str(LOCKS.parents[1]), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [python, "script.py"], cwd=tmp_path, env=environ, check=True, capture_output=True, text=True
    )
    assert done.stdout == "step (4, 4)\n"


def test_gpus_are_estimated_from_the_program_for_cpus_where_nothing_compiles_for_them(
    python: Path, tmp_path: Path
) -> None:
    gpus = replace(target("h100", 2, ()), accelerator="gpu-h100x2", kind="gpu")
    report = Rehearsed(tmp_path, python, SIZES, gpus).reports["gpu-h100x2"]
    assert [step.verdict for step in report.steps] == ["fits", "fits", "exceeds"]
    assert all(step.is_estimate for step in report.steps)
    needed = [round((step.memory.needed_bytes or 0) / GIB) for step in report.steps]
    assert (needed, report.devices) == ([0, 48, 120], 2)
    # Of what jax takes of a GPU; the compiler does not come with jax[tpu].
    assert {step.memory.available_bytes for step in report.steps} == {int(0.75 * H100_BYTES)}
    assert report.steps[0].collectives[0].operation == "all-reduce"
    assert report.steps[0].flops == pytest.approx(2 * 2 * 256**3, rel=0.1)
    assert "compiles for no GPU here" in report.warnings[0]
