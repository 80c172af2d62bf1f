"""The runtime of TPU bases knows the chips it is sold for; Pythons without a lock get one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.dependencies.stores import MemoryStore
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.accelerators.registry import TPUS
from kinetic_flows.core.settings.cloud import resolve_cloud
from kinetic_flows.dependencies.base_locks import made_base_notice, make_base_lock
from kinetic_flows.dependencies.lockfile import environment_spec
from kinetic_flows.dependencies.locking import Locker
from kinetic_flows.dependencies.uv import find_uv
from kinetic_flows.images.bases import base_pythons, read_base_inputs
from kinetic_flows.platforms.base import ImageOptions
from kinetic_flows.platforms.gke.images import ClusterImages
from kinetic_flows.platforms.image_sources import ProjectImage

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
UNSHIPPED = "3.10"
"""A Python that has every wheel a base needs, and no lock that comes with the product."""

NAMES = {"tpu-v5litepod": "v5e"}
"""How libtpu calls a generation, where it is not our name without `tpu-`."""

COMPILE = """
import json, sys
import jax, jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

for name in sys.argv[1:]:
    devices = topologies.get_topology_desc(name, platform="tpu").devices
    mesh = Mesh(np.array(devices), ("data",))
    spread, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    step = jax.jit(lambda x, w: jnp.tanh(x @ w).sum(), in_shardings=(spread, whole))
    shapes = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((1024, 256), (256, 256)))
    compiled = step.lower(*shapes).compile()
    print(json.dumps([name, devices[0].device_kind, compiled.cost_analysis()["flops"]]))
"""


@pytest.fixture(scope="module")
def tpu_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an interpreter with exactly the packages of this Python's TPU base."""
    root = tmp_path_factory.mktemp("tpu")
    lock, uv = root / "lock.txt", find_uv()
    lock.write_text(read_base_inputs("tpu", MINOR).lock)
    subprocess.run(
        [uv, "venv", "--quiet", "--python", sys.executable, str(root / "venv")], check=True
    )
    python = root / "venv" / "bin" / "python"
    subprocess.run(
        [
            *(uv, "pip", "install", "--quiet", "--no-config", "--no-deps", "--require-hashes"),
            *("--python", str(python), "--requirement", str(lock)),
        ],
        check=True,
    )
    return python


def test_a_step_compiles_for_every_tpu_without_one(tpu_python: Path) -> None:
    names = {
        tpu.prefix: f"{NAMES.get(tpu.prefix, tpu.prefix.removeprefix('tpu-'))}:"
        f"{tpu.default_topology}"
        for tpu in TPUS
    }
    done = subprocess.run(
        [str(tpu_python), "-c", COMPILE, *names.values()],
        env={
            "PATH": os.environ["PATH"],
            "JAX_PLATFORMS": "cpu",
            # Nothing here is a TPU VM, whose metadata server libtpu would wait for.
            "TPU_SKIP_MDS_QUERY": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    compiled = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, _, _ in compiled] == list(names.values())
    assert all(kind.startswith("TPU") and flops > 1e6 for _, kind, flops in compiled)


def test_a_python_without_a_lock_gets_one_that_everyone_shares(tmp_path: Path) -> None:
    store, environ = MemoryStore(), dict(os.environ)
    assert UNSHIPPED not in base_pythons()

    one, other = (Locker(store=store, home=tmp_path / name, environ=environ) for name in ("a", "b"))
    planned = make_base_lock("cpu", UNSHIPPED, one)
    assert not store.objects
    made = make_base_lock("cpu", UNSHIPPED, one, write=True)
    found = make_base_lock("cpu", UNSHIPPED, other, write=True)

    assert planned.text == made.text == found.text
    assert found.from_cache
    jax = next(package.version for package in made.packages if package.name == "jax")
    assert f"(jax {jax})" in made_base_notice("cpu", UNSHIPPED, made.text)
    _plans_with(made.text)


def _plans_with(lock: str) -> None:
    """Hold the made lock against what a build of the base is given."""
    images = ClusterImages(
        cloud=resolve_cloud(arguments={"project": "my-project"}, environ={}, profile=None),
        registry=None,  # type: ignore[arg-type]
        bases=lambda category, python: read_base_inputs(category, python, lock),
        python=UNSHIPPED,
    )
    source = images.source(ImageOptions(), parse_accelerator("cpu"))
    assert isinstance(source, ProjectImage)
    environment = environment_spec(lock, source.target)
    again = read_base_inputs(environment.category, environment.python, environment.made_base_lock)
    assert again.identity == environment.base_identity
