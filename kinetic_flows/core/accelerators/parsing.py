"""Reading how people write accelerators."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kinetic_flows.core.accelerators.model import (
    FLEX_SUFFIX,
    SPOT_SUFFIX,
    Accelerator,
    split_suffix,
)
from kinetic_flows.core.accelerators.node_pools import NodePool
from kinetic_flows.core.accelerators.registry import (
    CPU,
    GPUS,
    TPUS,
    GpuModel,
    SliceShape,
    TpuGeneration,
    chips_of,
    gpu_accelerator,
    list_accelerators,
    tpu_accelerator,
)
from kinetic_flows.core.errors import AcceleratorError, suggest

MAX_NAME_CHARACTERS = 100

_COUNT_ONLY = re.compile(r"(?P<category>gpu|tpu)[:-](?P<count>\d+)")
_PREFIXED = re.compile(r"(?P<category>gpu|tpu)[:-](?P<rest>.+)")
_COUNTED_GPU = re.compile(r"(?P<model>.+)x(?P<count>\d+)")
_SIZED_TPU = re.compile(r"(?P<generation>.+?)-(?P<size>\d+(?:x\d+){0,2})")

_GPU_NAMES: dict[str, GpuModel] = {
    name: gpu for gpu in GPUS for name in (gpu.name, gpu.label, *gpu.aliases)
}
_TPU_NAMES: dict[str, TpuGeneration] = {name: tpu for tpu in TPUS for name in tpu.names}


def parse_accelerator(text: str, *, pools: Iterable[NodePool] | None = None) -> Accelerator:
    """Read an accelerator's name.

    Names are read without regard to case. Accepted are `cpu`; GPUs as `l4`, `gpu-l4`,
    `gpu:l4`, `a100x4`, `gpu-a100-80gbx8`; TPUs as `tpu-v6e-8` or `v5e-8` (chips),
    `tpu-v5p-2x2x2` (topology), `tpu-v6e` (default size); a count alone, `tpu:8` or `gpu:4`,
    where the cluster has one type with that many; and any of these with `:spot`
    or `:flex` at its end.

    Args:
        text: The name.
        pools: The cluster's node pools, which decide what a count alone means; None when
            they are not known.

    Raises:
        AcceleratorError: There is no such accelerator, or not of this size, or a count alone
            does not say which.
    """
    body, suffix = split_suffix(text)
    found = _parsed(text, body, pools, spot=suffix == SPOT_SUFFIX)
    return replace(found, flex=True) if suffix == FLEX_SUFFIX else found


def _parsed(text: str, body: str, pools: Iterable[NodePool] | None, *, spot: bool) -> Accelerator:
    if body == "cpu":
        return replace(CPU, spot=spot)
    if counted := _COUNT_ONLY.fullmatch(body):
        return _by_count(text, counted["category"], int(counted["count"]), pools, spot=spot)
    prefixed = _PREFIXED.fullmatch(body)
    category = prefixed["category"] if prefixed else None
    rest = prefixed["rest"] if prefixed else body
    found = None
    if category != "tpu":
        found = _gpu(text, rest, spot=spot)
    if found is None and category != "gpu":
        found = _tpu(text, rest, spot=spot)
    if found is None:
        raise _unknown(text, rest)
    return found


def needs_node_pools(text: str) -> bool:
    """Whether a name is a count alone, which only the cluster's node pools give a meaning."""
    return _COUNT_ONLY.fullmatch(split_suffix(text)[0]) is not None


def check_accelerator(text: str) -> None:
    """Refuse a name that means nothing, whatever the cluster has.

    Raises:
        AcceleratorError: There is no such accelerator, or not of this size.
    """
    if len(text) > MAX_NAME_CHARACTERS:
        raise _unknown(text[:MAX_NAME_CHARACTERS], "")
    counted = _COUNT_ONLY.fullmatch(split_suffix(text)[0])
    if counted is None:
        parse_accelerator(text)
        return
    category, count = counted["category"], int(counted["count"])
    if not any((row.category, row.count) == (category, count) for row in list_accelerators()):
        raise AcceleratorError(
            f"no {category.upper()} comes in {text!r}", value=text, hint=_existing_counts(category)
        )


def names_of(accelerator: Accelerator) -> tuple[str, ...]:
    """Return by what people look for an accelerator, its own name first.

    Args:
        accelerator: One of `list_accelerators`.
    """
    name = accelerator.name
    aliases = [
        *(alias for tpu in TPUS if name.startswith(f"{tpu.prefix}-") for alias in tpu.aliases),
        *(alias for gpu in GPUS if gpu.label == accelerator.label for alias in gpu.aliases),
    ]
    return (name, *aliases, *filter(None, (accelerator.label,)))


def accelerator_of(pool: NodePool) -> Accelerator | None:
    """Return what a node pool has by our name; None for what we do not know.

    Args:
        pool: The node pool.
    """
    for row in list_accelerators():
        is_same = (row.label, row.topology) == (pool.accelerator, pool.topology)
        is_cpu = row.category == "cpu" and pool.accelerator is None
        if is_cpu or (is_same and row.count_per_host == pool.count_per_host):
            return replace(row, spot=pool.spot, flex=pool.flex)
    return None


def _gpu(text: str, body: str, *, spot: bool) -> Accelerator | None:
    """Read `model` or `modelxcount`; None when the model is no GPU."""
    gpu, count = _GPU_NAMES.get(body), None
    if gpu is None and (counted := _COUNTED_GPU.fullmatch(body)):
        gpu, count = _GPU_NAMES.get(counted["model"]), int(counted["count"])
    if gpu is None:
        return None
    sizes = [size for size, _ in gpu.machine_types]
    if count is None:
        count = sizes[0]
    if count not in sizes:
        names = [gpu_accelerator(gpu, size, spot=spot) for size in sizes]
        raise _impossible_size(text, f"no machine has {count} {gpu.name} GPUs", names)
    return gpu_accelerator(gpu, count, spot=spot)


def _tpu(text: str, body: str, *, spot: bool) -> Accelerator | None:
    """Read `generation`, `generation-chips` or `generation-topology`; None when it is no TPU."""
    tpu, size = _TPU_NAMES.get(body.removeprefix("tpu")) or _TPU_NAMES.get(body), None
    if tpu is None and (sized := _SIZED_TPU.fullmatch(body)):
        tpu, size = _TPU_NAMES.get(sized["generation"]), sized["size"]
    if tpu is None:
        return None
    shape = _shape(tpu, size or tpu.default_topology)
    if shape is None:
        names = [tpu_accelerator(tpu, each, spot=spot) for each in tpu.shapes]
        raise _impossible_size(text, f"{tpu.prefix} has no slice of {size}", names)
    return tpu_accelerator(tpu, shape, spot=spot)


def _shape(tpu: TpuGeneration, size: str) -> SliceShape | None:
    for shape in tpu.shapes:
        if size in (shape.topology, str(shape.chips)):
            return shape
    return _large_shape(tpu, size)


def _large_shape(tpu: TpuGeneration, topology: str) -> SliceShape | None:
    """Make a slice of whole cubes that the table only describes by its rule."""
    sides = [int(side) for side in topology.split("x")]
    if tpu.large is None or len(sides) != 3:
        return None
    cubes = all(side and side % 4 == 0 for side in sides) and sides == sorted(sides)
    if not cubes or chips_of(topology) > tpu.max_chips:
        return None
    return SliceShape(
        topology="x".join(map(str, sides)),
        machine_type=tpu.large.machine_type,
        label=tpu.large.label,
        chips_per_host=tpu.large.chips_per_host,
    )


def _by_count(
    text: str, category: str, count: int, pools: Iterable[NodePool] | None, *, spot: bool
) -> Accelerator:
    """Find the one type of which the cluster has this many."""
    sized = [
        parse_accelerator(f"{row.name}{SPOT_SUFFIX if spot else ''}")
        for row in list_accelerators()
        if row.category == category and row.count == count
    ]
    if pools is None:
        raise AcceleratorError(
            f"{text!r} does not say which {category.upper()}, and the cluster is not known",
            value=text,
            hint=f"name one of: {_names(sized)}" if sized else _existing_counts(category),
        )
    known = list(pools)
    fitting = [row for row in sized if any(pool.offers(row) for pool in known)]
    if len(fitting) == 1:
        return fitting[0]
    raise _undecided(text, fitting or sized, known, several=bool(fitting))


def _undecided(
    text: str, rows: Sequence[Accelerator], pools: Sequence[NodePool], *, several: bool
) -> AcceleratorError:
    if several:
        return AcceleratorError(
            f"{text!r} fits several node pools of the cluster",
            value=text,
            hint=f"name one of: {_names(rows)}",
        )
    have = ", ".join(str(pool) for pool in pools) or "none"
    would = f"; a node pool for one of these would do: {_names(rows)}" if rows else ""
    return AcceleratorError(
        f"no node pool of the cluster has {text!r}",
        value=text,
        hint=f"the cluster's node pools: {have}{would}",
    )


def _existing_counts(category: str) -> str:
    counts = {row.count for row in list_accelerators() if row.category == category}
    return f"counts that exist: {', '.join(map(str, sorted(counts)))}"


def _impossible_size(text: str, problem: str, rows: Iterable[Accelerator]) -> AcceleratorError:
    return AcceleratorError(f"{text!r}: {problem}", value=text, hint=f"sizes: {_names(rows)}")


def _unknown(text: str, body: str) -> AcceleratorError:
    generations = {tpu.prefix for tpu in TPUS}
    valid = {"cpu", *(gpu.name for gpu in GPUS), *generations}
    name, colon, _ = body.partition(":")
    wanted = f"tpu-{name}" if re.match(r"v\d", name) else name
    ending = "`:spot` or `:flex` may stand at its end, and one of them; " if colon else ""
    return AcceleratorError(
        f"there is no accelerator {text!r}",
        value=text,
        hint=f"{ending}{suggest(wanted, valid)} (`kinetic accelerators` lists every size)",
    )


def _names(rows: Iterable[Accelerator]) -> str:
    return ", ".join(str(row) for row in rows)
