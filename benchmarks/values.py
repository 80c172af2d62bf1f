"""What large arguments and results cost, beside cloudpickle and an upload of what it makes.

Every step is a process of its own, with the same directory as its store: a client that sends an
array and a process that loads it as a run does; a run that leaves it as its result and a client
that gets it. The alternative is what most libraries do: `cloudpickle.dumps`, a file, and
`cloudpickle.loads` of what is read of it; for what travels back it is signed and checked, as ours
is. Seconds are those of the work after the imports; memory is what the process's peak grew by
while it worked, the array itself left out on the side that has it from the beginning.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _report import Row, report

MEGABYTES = 1000
STEPS = {
    "send": "send an argument",
    "load": "load it in the run",
    "leave": "leave a result",
    "get": "get it back",
}
OWNER = RUN = "run-1"
KEY = "5e" * 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object per row")
    parser.add_argument("--megabytes", type=int, default=MEGABYTES, help="size of the array")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        way, step, folder = options.step
        print(json.dumps(run_step(way, step, folder, options.megabytes)))
        return
    with tempfile.TemporaryDirectory(prefix="values-") as scratch:
        report(list(measure(Path(scratch), options.megabytes)), options.json)


def measure(folder: Path, megabytes: int) -> Iterator[Row]:
    for step, name in STEPS.items():
        ours, theirs = (start(way, step, folder, megabytes) for way in ("ours", "cloudpickle"))
        yield Row(name=name, ours=ours["seconds"], alternative=theirs["seconds"], unit="s")
        yield Row(
            name=f"{name}, memory",
            ours=ours["grown_mb"],
            alternative=theirs["grown_mb"],
            unit="MB",
        )


def start(way: str, step: str, folder: Path, megabytes: int) -> dict[str, float]:
    """Run one step in a process of its own."""
    place = folder / way
    place.mkdir(exist_ok=True)
    command = [sys.executable, __file__, "--step", way, step, str(place)]
    done = subprocess.run(
        [*command, "--megabytes", str(megabytes)], check=True, stdout=subprocess.PIPE
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def run_step(way: str, step: str, folder: str, megabytes: int) -> dict[str, float]:
    import numpy

    work = WAYS[way][step](Path(folder))
    given = None
    if step in ("send", "leave"):
        given = numpy.random.default_rng(0).random(megabytes * 1_000_000 // 8)
    before, started = peak_mb(), time.perf_counter()
    value = work(given)
    if value is not None:
        value += 1  # all of it is there, and may be written to
    return {"seconds": time.perf_counter() - started, "grown_mb": peak_mb() - before}


def take(array: Any) -> None:
    """Stand for the function that is called."""


def our_sending(folder: Path) -> Callable[[Any], None]:
    from kinetic_flows.code.payload import pack_call
    from kinetic_flows.code.pieces import upload_pieces
    from kinetic_flows.code.root import find_package_root
    from kinetic_flows.platforms.local.store import LocalStore

    root = find_package_root(take, override=None, cwd=folder, sys_path=sys.path)

    def send(array: Any) -> None:
        payload = pack_call(print, (array,), {}, root=root)
        upload_pieces(payload.pieces, LocalStore(folder), OWNER)
        (folder / "payload.pkl").write_bytes(payload.content)
        told = [vars(piece.ref(OWNER)) for piece in payload.pieces]
        (folder / "pieces.json").write_text(json.dumps(told))

    return send


def our_loading(folder: Path) -> Callable[[Any], Any]:
    from kinetic_flows.runner_image.runner.payload import load_call, read_payload
    from kinetic_flows.runner_image.runner.pieces import fetch_pieces
    from kinetic_flows.runner_image.runner.stores import DirectoryStore

    def load(_: Any) -> Any:
        frame, pieces = read_payload(str(folder / "payload.pkl")), folder / "fetched"
        pieces.mkdir()
        refs = json.loads((folder / "pieces.json").read_text())
        fetch_pieces(DirectoryStore(str(folder)), refs, frame, str(pieces))
        return load_call(frame, str(pieces), ())[1][0]

    return load


def our_leaving(folder: Path) -> Callable[[Any], None]:
    from kinetic_flows.runner_image.runner.contract import make_header, seal
    from kinetic_flows.runner_image.runner.masks import Masks
    from kinetic_flows.runner_image.runner.outcome import BODY_FILE, leave_value, read_outcome
    from kinetic_flows.runner_image.runner.stores import DirectoryStore

    def leave(array: Any) -> None:
        leave_value(str(folder), array, Masks())
        told = read_outcome(str(folder)) or {}
        header = make_header(RUN, told.pop("status"), 0, **told)
        body = str(folder / BODY_FILE)
        DirectoryStore(str(folder)).put_if_absent("result", seal(header, body, KEY), body)

    return leave


def our_getting(folder: Path) -> Callable[[Any], Any]:
    from kinetic_flows.code.unpickling import load_returned
    from kinetic_flows.core.envelope import open_result
    from kinetic_flows.platforms.local.store import LocalStore

    def get(_: Any) -> Any:
        envelope = open_result(LocalStore(folder).read("result"), KEY, RUN)
        return load_returned(envelope.body, envelope.header.buffers)

    return get


def plain_sending(folder: Path) -> Callable[[Any], None]:
    import cloudpickle

    def send(array: Any) -> None:
        data = cloudpickle.dumps((print, (array,), {}))
        (folder / hashlib.sha256(data).hexdigest()).write_bytes(data)

    return send


def plain_loading(folder: Path) -> Callable[[Any], Any]:
    import cloudpickle

    def load(_: Any) -> Any:
        (path,) = folder.iterdir()
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != path.name:
            raise ValueError(path)
        return cloudpickle.loads(data)[1][0]

    return load


def plain_leaving(folder: Path) -> Callable[[Any], None]:
    import cloudpickle

    def leave(array: Any) -> None:
        data = cloudpickle.dumps(array)
        signature = hmac.new(bytes.fromhex(KEY), data, hashlib.sha256).digest()
        (folder / "result").write_bytes(signature + data)

    return leave


def plain_getting(folder: Path) -> Callable[[Any], Any]:
    import cloudpickle

    def get(_: Any) -> Any:
        sealed = (folder / "result").read_bytes()
        signature, data = sealed[:32], sealed[32:]
        expected = hmac.new(bytes.fromhex(KEY), data, hashlib.sha256).digest()
        if not hmac.compare_digest(signature, expected):
            raise ValueError(folder)
        return cloudpickle.loads(data)

    return get


WAYS: dict[str, dict[str, Callable[[Path], Callable[[Any], Any]]]] = {
    "ours": {
        "send": our_sending,
        "load": our_loading,
        "leave": our_leaving,
        "get": our_getting,
    },
    "cloudpickle": {
        "send": plain_sending,
        "load": plain_loading,
        "leave": plain_leaving,
        "get": plain_getting,
    },
}


def peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main()
