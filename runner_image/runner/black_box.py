"""The black box of a host: what it saw last, kept where its run did not just return.

It is written beside the result and the final state, which do not wait for it, and never read
by the runner. Everything in it is bounded, and masked as the log is.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .contract import Fault
from .door import Door
from .endings import Ending, signal_name

if TYPE_CHECKING:
    from .output import Output
    from .readings import Reading
    from .stores import BucketStore, DirectoryStore

VERSION = 1
MOST_BYTES = 256 << 10
LINE_CHARACTERS = 2_000
FRAMES = 30
"""Of how many frames of a thread is told: of the outermost, and of the innermost."""
THREADS = 40
READINGS_SECONDS = 600.0

STORE_SECONDS = 10.0
"""How long a process that is about to end waits until its black box is stored."""


def stacks_of(door: Door, limit_seconds: float) -> dict[str, Any]:
    """Return what the function does that is about to be stopped, or why that cannot be told.

    Args:
        door: Where its process is.
        limit_seconds: How long it may take to tell.
    """
    from .stacks import take

    try:
        taken = take(door, limit_seconds=limit_seconds).document()
    except Exception as error:  # noqa: BLE001 - how the run ended is told whatever is not seen
        return {"no_stacks": str(error)}
    threads = taken["threads"][:THREADS]
    for thread in threads:
        if len(thread["frames"]) > 2 * FRAMES:
            thread["frames"] = thread["frames"][:FRAMES] + thread["frames"][-FRAMES:]
    return {"stacks": {**taken, "threads": threads}}


def readings_of(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return readings as JSON values, without what could not be read."""
    return [
        {
            **{name: each for name, each in reading._asdict().items() if each not in (None, ())},
            **({"chips": [_known(chip) for chip in reading.chips]} if reading.chips else {}),
        }
        for reading in readings
    ]


def _known(chip: Any) -> dict[str, Any]:
    return {name: each for name, each in chip._asdict().items() if each is not None}


def document_of(
    ending: Ending, output: Output, *, run_id: str, host: int, start: int, place: str
) -> dict[str, Any]:
    """Return a host's black box.

    Args:
        ending: How its start of the run ended.
        output: What it printed.
        run_id: The run.
        host: The host's number.
        start: How often the run was started before.
        place: The pod or machine, as it calls itself.
    """
    from .error_lines import errors_in

    code = ending.fields.get("exit_code")
    errors, counts = errors_in(output.noted)
    return {
        "version": VERSION,
        "run_id": run_id,
        "host": host,
        "start": start,
        "place": place,
        "at": round(time.time(), 3),
        "status": ending.status or "stopped",
        "message": output.masked(str(ending.fields.get("message", "")))[:LINE_CHARACTERS],
        "type_name": str(ending.fields.get("type_name", "")),
        "exit_code": code,
        "signal": signal_name(-code) if isinstance(code, int) and code < 0 else "",
        "out_of_memory": ending.out_of_memory,
        "lines": [line[:LINE_CHARACTERS] for line in output.recent],
        "errors": errors,
        "error_counts": counts,
        **ending.seen,
    }


def encoded(document: Mapping[str, Any]) -> bytes:
    """Return a black box as it is stored, with less of everything where it would be too large."""
    shrunk = dict(document)
    for _ in range(12):
        data = json.dumps(shrunk, separators=(",", ":")).encode()
        if len(data) <= MOST_BYTES:
            return data
        readings, lines = shrunk.get("readings") or [], shrunk.get("lines") or []
        shrunk["readings"], shrunk["lines"] = readings[1::2], lines[len(lines) // 2 :]
        if stacks := shrunk.get("stacks"):
            threads = stacks["threads"]
            shrunk["stacks"] = {**stacks, "threads": threads[: max(len(threads) // 2, 1)]}
    return json.dumps({**shrunk, "stacks": None, "lines": [], "readings": []}).encode()


@contextmanager
def kept(
    store: DirectoryStore | BucketStore, name: str, document: Mapping[str, Any]
) -> Iterator[None]:
    """Store a black box beside what is done meanwhile; where that cannot be, there is none.

    Args:
        store: Where it goes.
        name: The object's name; that of an earlier start is replaced.
        document: What is in it.
    """

    def write() -> None:
        with suppress(Fault):
            store.put(name, encoded(document))

    thread = threading.Thread(target=write, name="black-box", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(STORE_SECONDS)


def shown(document: Mapping[str, Any]) -> str:
    """Return what a run's page says of its end, in Markdown, as far as this host knows it."""
    from .markdown import code, text

    host = f"host {document['host']}: " if document["host"] else ""
    what = f"{document['type_name']}: " if document["status"] == "raised" else ""
    parts = [f"{host}{text(what + (document['message'] or document['status']))}"]
    parts += [f"- {code(entry['line'][:200])}" for entry in document["errors"][-3:]]
    parts.append(f"\n{code('kinetic runs why ' + document['run_id'])} tells more.")
    return "\n".join(parts)
