"""The runner's side of the contract with the client: exit codes, object names, envelopes.

The client's side is `job.py`, `envelope.py` and `object_names.py` in `kinetic_flows/core`.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from typing import IO, Any

JOB_VERSION = 1
RESULT_MAGIC = b"kinetic-result-1"

DEVICES_VARIABLE = "KINETIC_DEVICES"
"""Environment variable that says which chips the run asked for, such as `tpu:8`."""

RESULT_TOO_LARGE = "the result is too large"
"""What the message of a crash begins with whose result found no room where the run was."""

IDLE = "its chips did nothing"
"""What the message of a run says that timed out as `idle_timeout_seconds` wants it."""

COSTLY = "it has cost about"
"""What the message of a run begins with that timed out as `max_cost` wants it."""

ALIGNMENT = 64
"""What the position of a buffer is a multiple of, for those who compute with it where it is."""

EXIT_RETURNED = 0
EXIT_RAISED = 1
EXIT_BAD_LAUNCH = 40
EXIT_OBJECT_UNAVAILABLE = 41
EXIT_OBJECT_REFUSED = 42
EXIT_RUNTIME_UNFIT = 43
EXIT_CODE_NOT_RESTORED = 44
EXIT_REQUIREMENTS_FAILED = 45
EXIT_PAYLOAD_UNREADABLE = 46
EXIT_RESULT_NOT_WRITTEN = 47
EXIT_PARAMETERS_UNAVAILABLE = 48
EXIT_DEVICES_MISSING = 49
EXIT_OUTPUT_DIR_UNAVAILABLE = 50
EXIT_SECRETS_UNAVAILABLE = 51
EXIT_DATA_UNAVAILABLE = 52
EXIT_STOOD_DOWN = 53
EXIT_MOVED_ON = 54
EXIT_CANCELLED = 130
EXIT_TERMINATED = 143
SIGNAL_BASE = 128

READ_BYTES = 1 << 20

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a disk says that is full."""


class Fault(Exception):
    """A phase that failed before or after the function: its exit code and what happened."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message


class StoreAway(Fault):
    """The store does not answer for now; what it refuses is a plain `Fault`."""


def result_object(run_id: str) -> str:
    """Name of a run's result."""
    return f"runs/{run_id}/result.pkl"


def starts_prefix(run_id: str, round_number: int | None) -> str:
    """Name below `runs/` of what the starts of a run's processes leave, each round's apart.

    Args:
        run_id: The run.
        round_number: The round; None for a run that has one accelerator.
    """
    return run_id if round_number is None else f"{run_id}/rounds/{round_number}"


def host_result_object(starts: str, host: int) -> str:
    """Name of the result of a slice's other host; see `starts_prefix`."""
    return f"runs/{starts}/host-{host}.pkl"


def candidates_object(run_id: str) -> str:
    """Name of what lists the accelerators that a run may go on."""
    return f"runs/{run_id}/candidates.json"


def round_object(run_id: str, number: int) -> str:
    """Name of what says that a round has begun."""
    return f"runs/{run_id}/rounds/{number}/round.json"


def claim_object(run_id: str, number: int) -> str:
    """Name of what says which accelerator of a round calls the function."""
    return f"runs/{run_id}/rounds/{number}/claim.json"


def round_end_object(run_id: str, number: int) -> str:
    """Name of what says why the run of the accelerator that had a round goes on elsewhere."""
    return f"runs/{run_id}/rounds/{number}/end.json"


def host_up_object(run_id: str, number: int, candidate: int, host: int) -> str:
    """Name of the mark of a host that waits for the others of its accelerator."""
    return f"runs/{run_id}/rounds/{number}/up/c{candidate}-host-{host}.json"


def sealed_object(payload_name: str) -> str:
    """Name of what was sealed for the runs of a pickled call: it lies next to that."""
    return f"{payload_name.rpartition('/')[0]}/sealed"


def start_object(starts: str, start: int, host: int) -> str:
    """Name of the mark of a start of a run, on one host; see `starts_prefix`."""
    name = f"host-{host}-started" if host else "started"
    return f"runs/{starts}/attempts/{start}/{name}.json"


def start_end_object(starts: str, start: int) -> str:
    """Name of the mark of when a start of a run was stopped from outside; see `starts_prefix`."""
    return f"runs/{starts}/attempts/{start}/ended.json"


def slice_start_object(starts: str, start: int) -> str:
    """Name of the mark that has every host of a slice start again; see `starts_prefix`."""
    return f"runs/{starts}/attempts/{start}/slice.json"


def failed_host_object(starts: str) -> str:
    """Name of the mark that has every host of a run stop, as one has failed; `starts_prefix`."""
    return f"runs/{starts}/failed-host.json"


def spending_object(run_id: str) -> str:
    """Name of what a run with a limit on its cost has cost by now."""
    return f"runs/{run_id}/spending.json"


def metrics_object(starts: str, host: int) -> str:
    """Name of what one host of a run has used, over time; see `starts_prefix`."""
    return f"runs/{starts}/metrics/host-{host}.json"


def black_box_object(starts: str, host: int) -> str:
    """Name of what one host of a run saw last, where the run went wrong; see `starts_prefix`."""
    return f"runs/{starts}/black-box/host-{host}.json"


def places_of(code: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return where things are in a job's code; a job without code has an empty project."""
    nothing: dict[str, Any] = {
        "sys_path": ["."],
        "late_sys_path": [],
        "working_directory": ".",
        "entry_module_file": None,
        "entry_module_name": None,
        "root": "",
    }
    return {name: (code or nothing)[name] for name in nothing}


def make_header(run_id: str, status: str, attempt: int, **fields: Any) -> dict[str, Any]:
    """Return a result's header with every field the client expects."""
    return {
        "run_id": run_id,
        "status": status,
        "attempt": attempt,
        "type_name": "",
        "message": "",
        "traceback": "",
        "log_tail": [],
        "exit_code": None,
        **fields,
    }


def seal(header: dict[str, Any], body: str | None, run_key: str) -> bytes:
    """Return what precedes the body in a result envelope: magic, HMAC and header.

    Args:
        header: What `make_header` returned.
        body: Path of the pickled value or exception; None for an empty body.
        run_key: The run's key, in hexadecimal.
    """
    line = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    if header.get("buffers"):
        before = len(RESULT_MAGIC) + 1 + 2 * hashlib.sha256().digest_size + 1
        line += b" " * (-(before + len(line) + 1) % ALIGNMENT)
    line += b"\n"
    signature = hmac.new(bytes.fromhex(run_key), line, hashlib.sha256)
    if body:
        with open(body, "rb") as file:
            for piece in pieces_of(file):
                signature.update(piece)
    return b"\n".join([RESULT_MAGIC, signature.hexdigest().encode(), line])


def read_header(data: bytes, run_key: str, run_id: str) -> dict[str, Any] | None:
    """Return the header of a sealed envelope; None when it is not this run's genuine one."""
    magic, _, rest = data.partition(b"\n")
    signature, _, signed = rest.partition(b"\n")
    expected = hmac.new(bytes.fromhex(run_key), signed, hashlib.sha256).hexdigest().encode()
    if magic != RESULT_MAGIC or not hmac.compare_digest(signature, expected):
        return None
    header: dict[str, Any] = json.loads(signed.partition(b"\n")[0])
    return header if header["run_id"] == run_id else None


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield a file's content in pieces of bounded size."""
    while True:
        piece = file.read(READ_BYTES)
        if not piece:
            return
        yield piece
