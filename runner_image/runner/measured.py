"""What a host of a run has used, as a document: how it is stored, and read again.

`kinetic_flows/runs/insight/metrics.py` has the same; numbers stand in the order of the columns,
which the document names, so that later ones may have more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .readings import ChipReading, Reading

VERSION = 1
_OF_HOST = ("memory_limit_bytes", "chips")
COLUMNS = tuple(name for name in Reading._fields if name not in _OF_HOST)
CHIP_COLUMNS = tuple(name for name in ChipReading._fields if name != "memory_total_bytes")


def document_of(
    readings: Sequence[Reading],
    *,
    host: int,
    start: int,
    began: float,
    ended: bool,
    scope: str,
    cpus: float | None,
    chip_kind: str,
    chip_name: str,
) -> dict[str, Any]:
    """Return readings as plain JSON values.

    Args:
        readings: The readings, in order.
        host: The host's number.
        start: How often the run was started before.
        began: When the function was called, in seconds since the epoch.
        ended: Whether nothing more is read.
        scope: Whose use it is: `container` or `processes`.
        cpus: How many CPUs it may use; None where that is not known.
        chip_kind: `gpu`, `tpu`, or empty.
        chip_name: What the driver calls the chips; empty where it has not said.
    """
    last = readings[-1] if readings else Reading(at=began, seconds=0.0)
    # A driver that does not answer leaves readings without chips.
    chips = next((each.chips for each in reversed(readings) if each.chips), ())
    return {
        "version": VERSION,
        "host": host,
        "start": start,
        "began": round(began, 3),
        "ended": ended,
        "scope": scope,
        "cpus": cpus,
        "memory_limit_bytes": last.memory_limit_bytes,
        "chip_kind": chip_kind,
        "chip_name": chip_name,
        "chip_memory_bytes": [each.memory_total_bytes for each in chips],
        "columns": [*COLUMNS, "chips"],
        "chip_columns": list(CHIP_COLUMNS),
        "readings": [_row(each) for each in readings],
    }


def _row(reading: Reading) -> list[Any]:
    chips = [[getattr(chip, name) for name in CHIP_COLUMNS] for chip in reading.chips]
    return [*(getattr(reading, name) for name in COLUMNS), chips]


def told(document: Mapping[str, Any], also: str = "") -> dict[str, Any]:
    """Return a document with what it says in words, and as a picture.

    Args:
        document: What `document_of` has returned.
        also: Something else that is said of the run; empty for nothing.
    """
    from .picture import draw
    from .use_words import words_of

    readings, kind, cpus = readings_of(document), document["chip_kind"], document["cpus"]
    words = words_of(readings, chip_kind=kind, cpus=cpus)
    return {
        **document,
        "words": [*words, *([also] if also else [])],
        "picture": draw(readings, chip_kind=kind, cpus=cpus),
    }


def as_markdown(document: Mapping[str, Any], hosts: int) -> str:
    """Return what a document says as a section of the run's page; empty where that is nothing.

    Args:
        document: What `told` has returned.
        hosts: How many hosts the run has.
    """
    from .picture import as_image

    if not document["picture"]:
        return ""
    which = f"Host {document['host']} of {hosts}, counted from 0:" if hosts > 1 else ""
    words = "".join(f"- {each}\n" for each in document["words"])
    image = as_image(document["picture"])
    return "\n\n".join(part for part in (which, words.rstrip(), image) if part)


def readings_of(document: Mapping[str, Any]) -> list[Reading]:
    """Return the readings of a document.

    Raises:
        ValueError: It is none of this version.
    """
    if document.get("version") != VERSION:
        raise ValueError(f"metrics of version {document.get('version')}")
    columns, limit = document["columns"], document["memory_limit_bytes"]
    readings = []
    for row in document["readings"]:
        fields = {name: value for name, value in zip(columns, row, strict=True) if name in COLUMNS}
        chips = _chips(document, row[columns.index("chips")])
        readings.append(Reading(**fields, memory_limit_bytes=limit, chips=chips))
    return readings


def _chips(document: Mapping[str, Any], rows: Sequence[Sequence[Any]]) -> tuple[ChipReading, ...]:
    totals = [*document["chip_memory_bytes"], *(None for _ in rows)]
    chips = []
    for row, total in zip(rows, totals, strict=False):
        named = zip(document["chip_columns"], row, strict=True)
        fields = {name: value for name, value in named if name in CHIP_COLUMNS}
        chips.append(ChipReading(**fields, memory_total_bytes=total))
    return tuple(chips)
