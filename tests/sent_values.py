"""Values on their way: to a run, as it gets them, and back, as its client does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kinetic_flows.runner_image.runner.contract import make_header, seal
from kinetic_flows.runner_image.runner.fetching import Store
from kinetic_flows.runner_image.runner.masks import Masks
from kinetic_flows.runner_image.runner.outcome import BODY_FILE, leave_value, read_outcome
from kinetic_flows.runner_image.runner.payload import load_call, read_payload
from kinetic_flows.runner_image.runner.pieces import fetch_pieces
from kinetic_flows.runner_image.runner.stores import DirectoryStore

from kinetic_flows.code.payload import Payload, pack_call
from kinetic_flows.code.pieces import upload_pieces
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.object_names import result_object
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.results import read_result, unpack_result
from runner_jobs import RUN_ID, RUN_KEY
from shipping import plain_root

OWNER = "run-1"


def take(*args: Any, **kwargs: Any) -> None:
    """Stand for a function that is called; found by its name."""


def packed(*args: Any, **kwargs: Any) -> Payload:
    return pack_call(take, args, kwargs, root=plain_root(Path.cwd()))


def refs(payload: Payload) -> list[dict[str, Any]]:
    return [vars(piece.ref(OWNER)) for piece in payload.pieces]


def arrived(payload: Payload, tmp_path: Path) -> tuple[Any, ...]:
    """Send a call to a store, and return its arguments as a run has them."""
    upload_pieces(payload.pieces, LocalStore(tmp_path / "store"), OWNER)
    return fetched(payload, tmp_path, DirectoryStore(str(tmp_path / "store")))


def fetched(payload: Payload, tmp_path: Path, store: Store) -> tuple[Any, ...]:
    frame, directory = tmp_path / "payload.pkl", tmp_path / "pieces"
    frame.write_bytes(payload.content)
    directory.mkdir()
    fetch_pieces(store, refs(payload), read_payload(str(frame)), str(directory))
    args: tuple[Any, ...] = load_call(read_payload(str(frame)), str(directory), ())[1]
    return args


def returned(value: Any, tmp_path: Path) -> Any:
    """Return what a client gets of a value that a run returns."""
    leave_value(str(tmp_path), value, Masks())
    outcome = read_outcome(str(tmp_path))
    assert outcome is not None
    assert outcome["status"] == "returned", outcome
    body = str(tmp_path / BODY_FILE)
    store = DirectoryStore(str(tmp_path / "store"))
    fields = {name: told for name, told in outcome.items() if name != "status"}
    header = make_header(RUN_ID, "returned", 0, **fields)
    store.put_if_absent(result_object(RUN_ID), seal(header, body, RUN_KEY), body)
    run = RunTicket(run_id=RUN_ID, name="run", run_key=RUN_KEY)
    envelope = read_result(LocalStore(tmp_path / "store"), run)
    assert envelope is not None
    return unpack_result(envelope, run)
