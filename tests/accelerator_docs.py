"""Writes the tables of docs/accelerators.md from the registry.

Run this as a program after a change of the registry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from kinetic_flows.core.accelerators import Accelerator, list_accelerators
from kinetic_flows.core.accelerators.registry import GPUS, TPUS

PAGE = Path(__file__).parents[1] / "docs" / "accelerators.md"


def gpu_table() -> Iterator[str]:
    """Yield a row for each model of GPU."""
    yield "| Model | Memory each | Names, by how many a machine has | Machine types | Other names |"
    yield "| --- | --- | --- | --- | --- |"
    for model, rows in groupby(_of("gpu"), key=lambda each: each.label):
        sizes = list(rows)
        gpu = next(each for each in GPUS if each.label == model)
        machines = ", ".join(f"`{each.machine_type}`" for each in sizes)
        yield _row(gpu.name, f"{gpu.memory_gb} GB", _names(sizes), machines, _quoted(gpu.aliases))


def tpu_table() -> Iterator[str]:
    """Yield a row for each generation of TPU."""
    yield "| Generation | Memory a chip | On one host | On several hosts | Other names |"
    yield "| --- | --- | --- | --- | --- |"
    for tpu in TPUS:
        sizes = [each for each in _of("tpu") if each.name.startswith(f"{tpu.prefix}-")]
        one = [each for each in sizes if each.hosts == 1]
        several = [each for each in sizes if each.hosts > 1]
        more = (
            f"; any other with sides of 4, 8, 12 ... in rising order, up to {tpu.max_chips} chips"
            if tpu.large
            else ""
        )
        yield _row(
            tpu.prefix,
            f"{tpu.memory_gb} GB",
            _names(one),
            f"{_names(several)}{more}",
            _quoted(each for each in tpu.names if each != tpu.prefix),
        )


def rewritten(page: str) -> str:
    """Return the page with the tables as the registry has them."""
    for name, table in (("gpus", gpu_table()), ("tpus", tpu_table())):
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        lines = "\n".join(table)
        page, count = re.subn(f"{begin}.*?{end}", f"{begin}\n{lines}\n{end}", page, flags=re.DOTALL)
        assert count == 1, f"the page has no place for the table of {name}"
    return page


def _of(category: str) -> list[Accelerator]:
    return [each for each in list_accelerators() if each.category == category]


def _names(rows: Iterable[Accelerator]) -> str:
    return _quoted(each.name for each in rows)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _row(name: str, *cells: str) -> str:
    return f"| `{name}` | {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
