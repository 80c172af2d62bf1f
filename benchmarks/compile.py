"""The time to the first step of a jax function, with the programs of an earlier run and without.

The alternative is the same call with `compile_cache=False`, in turn with ours, on this machine and
its CPU. The time of a first step is from before the import of jax to the step's value, inside the
function; that of a call is from the call to its value. The last row is a function that compiles
nothing, which should not notice.

    python benchmarks/compile.py [--json] [--rounds 5] [--layers 48]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from _report import Row, report

FUNCTIONS = '''
import time

import kinetic


@kinetic.run(accelerator="cpu", requirements=["jax"])
def first_step(layers: int) -> float:
    """Return how long it takes to the value of the first step, without a scan over the layers."""
    begun = time.perf_counter()
    import jax
    import jax.numpy as jnp

    def loss(weights, x):
        for weight in weights:
            normed = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
            heads = jnp.einsum("bsd,hde->bhse", normed, weight["heads"])
            scores = jax.nn.softmax(jnp.einsum("bhse,bhte->bhst", heads, heads))
            mixed = jnp.einsum("bhst,bhte->bshe", scores, heads).reshape(x.shape)
            x = x + jax.nn.gelu(mixed @ weight["up"]) @ weight["down"]
        return (x**2).mean()

    shapes = {"heads": (4, 64, 16), "up": (64, 256), "down": (256, 64)}
    weights = [{name: jnp.full(shape, 0.01) for name, shape in shapes.items()}] * layers
    value, slopes = jax.jit(jax.value_and_grad(loss))(weights, jnp.ones((2, 32, 64)))
    jax.block_until_ready(slopes)
    return time.perf_counter() - begun


@kinetic.run(accelerator="cpu", requirements=["jax"])
def nothing() -> None:
    """Compile nothing."""
'''

Timed: TypeAlias = tuple[float, float]
"""Seconds of a call, and of what was measured inside it."""


def timed(function: Callable[..., Any], *args: Any) -> Timed:
    """Call a function; return how long that took, and what it says that its own part took."""
    begun = time.perf_counter()
    inside = function(*args)
    return time.perf_counter() - begun, inside or 0.0


def in_turn(function: Any, args: tuple[Any, ...], rounds: int) -> tuple[list[Timed], list[Timed]]:
    """Return what calls took with programs and without, after one that keeps them."""
    kept, afresh = (function.with_options(compile_cache=each) for each in (True, False))
    timed(kept, *args)
    ours, alternative = [], []
    for _ in range(rounds):
        ours.append(timed(kept, *args))
        alternative.append(timed(afresh, *args))
    return ours, alternative


def rows_of(name: str, ours: list[Timed], alternative: list[Timed], part: int) -> Row:
    """Return the medians of calls (0), or of what was measured inside them (1)."""
    medians = (statistics.median(each[part] for each in some) for some in (ours, alternative))
    with_programs, without = medians
    return Row(name=name, ours=with_programs, alternative=without, unit="s")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--layers", type=int, default=48)
    options = arguments.parse_args()
    os.environ["KINETIC_PLATFORM"] = "local"
    os.environ["KINETIC_PROGRESS"] = "quiet"
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "compiled.py").write_text(FUNCTIONS)
        sys.path.insert(0, directory)
        functions = import_module("compiled")
        rows = []
        for layers in (options.layers, 1):
            calls = in_turn(functions.first_step, (layers,), options.rounds)
            what = f"{layers} layer{'' if layers == 1 else 's'}"
            rows.append(rows_of(f"first step, {what}", *calls, part=1))
            rows.append(rows_of(f"whole call, {what}", *calls, part=0))
        calls = in_turn(functions.nothing, (), options.rounds)
        rows.append(rows_of("call that compiles nothing", *calls, part=0))
    report(rows, options.json)


if __name__ == "__main__":
    main()
