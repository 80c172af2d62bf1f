"""Large arguments and results: out of band, from where they are, into memory that is mapped."""

from __future__ import annotations

import pickle
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinetic_flows.runner_image.runner import arrays as arrays_of_runs
from kinetic_flows.runner_image.runner.contract import Fault
from kinetic_flows.runner_image.runner.masks import Masks
from kinetic_flows.runner_image.runner.outcome import BODY_FILE, leave_value, read_outcome
from kinetic_flows.runner_image.runner.payload import load_call, read_payload
from kinetic_flows.runner_image.runner.pieces import buffer_name, fetch_pieces
from kinetic_flows.runner_image.runner.raised import pickle_exception
from kinetic_flows.runner_image.runner.stores import DirectoryStore

from kinetic_flows.code import arrays, pieces
from kinetic_flows.code.payload import Payload
from kinetic_flows.code.pieces import cut, upload_pieces
from kinetic_flows.core.envelope import ResultEnvelope, ResultHeader, open_result
from kinetic_flows.core.errors import RunCrashed, UsageError
from kinetic_flows.core.job import EXIT_CODE_NOT_RESTORED, EXIT_RESULT_NOT_WRITTEN, RunTicket
from kinetic_flows.core.object_names import result_object
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.results import read_result, unpack_result
from runner_jobs import RUN_ID, RUN_KEY, Job
from sent_values import OWNER, arrived, fetched, packed, refs, returned
from shipping import run_python, write_project

MILLION = 1 << 20


class Meters(np.ndarray):  # type: ignore[type-arg]
    """A subclass, which says itself how it pickles."""


class Old:
    """Something that does not know the latest protocol."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> Any:
        if protocol > 4:
            raise TypeError("no such protocol")
        return Old, (self.data,)


NUMBERS = np.arange(MILLION, dtype=np.float64)
READ_ONLY = NUMBERS.copy()
READ_ONLY.flags.writeable = False
RECORDS = np.zeros(200_000, dtype=[("name", "S4"), ("value", "<f8")])
RECORDS["value"] = np.arange(200_000)
VALUES = {
    "array": NUMBERS,
    "in Fortran's order": np.asfortranarray(NUMBERS.reshape(1024, 1024)),
    "of no contiguous memory": NUMBERS[::2],
    "of no dimension": np.array(1.5),
    "empty": np.zeros((0, 3)),
    "small": np.arange(10),
    "read-only": READ_ONLY,
    "big-endian": NUMBERS.astype(">f8"),
    "structured": RECORDS,
    "dates": np.arange(MILLION).astype("datetime64[s]"),
    "dates in Fortran's order": np.asfortranarray(
        np.arange(MILLION).astype("datetime64[s]").reshape(1024, 1024)
    ),
    "objects": np.array([1, "two", None], dtype=object),
    "subclass": NUMBERS.view(Meters),
    "masked": np.ma.masked_less(NUMBERS, 5),
    "several pieces": np.arange(2 * pieces.PIECE_LIMIT_BYTES // 8 + 5),
    "zeros": np.zeros(2 * pieces.PIECE_LIMIT_BYTES // 8),
}
BYTES = {
    "bytes": b"x" * (2 * MILLION),
    "bytearray": bytearray(b"y" * (2 * MILLION)),
    "text": "ä" * MILLION,
    "several pieces": bytes(range(256)) * ((pieces.PIECE_LIMIT_BYTES >> 8) + 1),
}
WAYS = {
    "there": lambda value, tmp_path: arrived(packed(value), tmp_path)[0],
    "back": returned,
}
either_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@either_way
@pytest.mark.parametrize("name", VALUES)
def test_arrays_are_the_same_and_as_writable_as_here(
    tmp_path: Path, way: Callable[..., Any], name: str
) -> None:
    value = VALUES[name]
    got = way(value, tmp_path)
    assert type(got) is type(value)
    assert got.dtype == value.dtype
    np.testing.assert_array_equal(got, value)
    assert got.flags.writeable == value.flags.writeable
    assert got.flags.f_contiguous == (value.flags.f_contiguous or value[::1].ndim < 2)
    if got.flags.writeable and got.size:
        got[...] = got.flat[0]


@either_way
@pytest.mark.parametrize("name", BYTES)
def test_bytes_and_texts_are_the_same(tmp_path: Path, way: Callable[..., Any], name: str) -> None:
    value = BYTES[name]
    got = way(value, tmp_path)
    assert type(got) is type(value)
    assert got == value


@either_way
def test_what_is_one_object_is_one_object(tmp_path: Path, way: Callable[..., Any]) -> None:
    first, second, words = way([NUMBERS, NUMBERS, BYTES["bytes"]], tmp_path)
    assert first is second
    assert words == BYTES["bytes"]


@either_way
@pytest.mark.parametrize("name", ["array", "dates"])
def test_what_does_not_know_the_latest_protocol_goes_by_an_earlier_one(
    tmp_path: Path, way: Callable[..., Any], name: str
) -> None:
    np.testing.assert_array_equal(way(Old(VALUES[name]), tmp_path).data, VALUES[name])


def test_an_exception_brings_its_array_back() -> None:
    error = pickle.loads(pickle_exception(ValueError("no", NUMBERS)))
    np.testing.assert_array_equal(error.args[1], NUMBERS)


def test_memory_goes_out_of_band_and_is_not_copied() -> None:
    payload = packed(NUMBERS, BYTES["bytes"], BYTES["bytearray"])
    assert len(payload.content) < 10_000
    owners = [piece.data.obj for piece in payload.pieces]
    assert owners[0] is BYTES["bytes"]
    assert np.shares_memory(np.frombuffer(payload.pieces[2].data, "u1"), NUMBERS)
    assert [piece.size_bytes for piece in payload.pieces] == [2 << 20, 2 << 20, 8 << 20]


def test_a_run_maps_an_array_and_what_it_writes_is_its_own(tmp_path: Path) -> None:
    payload = packed(NUMBERS)
    (got,) = arrived(payload, tmp_path)
    got[:] = 0
    (again,) = load_call(read_payload(str(tmp_path / "payload.pkl")), str(tmp_path / "pieces"), ())[
        1
    ]
    np.testing.assert_array_equal(again, NUMBERS)


def test_arrays_that_come_back_are_views_of_one_block(tmp_path: Path) -> None:
    first, second = returned([NUMBERS.copy(), NUMBERS + 1], tmp_path)
    places = [each.__array_interface__["data"][0] for each in (first, second)]
    assert abs(places[1] - places[0]) == NUMBERS.nbytes
    assert all(place % 64 == 0 for place in places)


def test_equal_pieces_are_sent_once_and_put_wherever_they_belong(tmp_path: Path) -> None:
    payload = packed(VALUES["zeros"], bytes(pieces.PIECE_LIMIT_BYTES), NUMBERS, NUMBERS.copy())
    assert len(payload.pieces) == 2
    zeros, data, first, second = arrived(payload, tmp_path)
    assert not zeros.any()
    assert data == bytes(pieces.PIECE_LIMIT_BYTES)
    first[:] = 0
    np.testing.assert_array_equal(second, NUMBERS)


def test_a_piece_may_have_more_places_than_a_process_may_have_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE_LIMIT_BYTES", 4096)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    payload = packed(np.zeros(MILLION))
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, limits[1]))
    try:
        (got,) = arrived(payload, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(payload.pieces) == 1
    assert got.shape == (MILLION,)
    assert not got.any()


def test_a_call_of_equal_values_has_equal_digests() -> None:
    assert packed(NUMBERS).sha256 == packed(NUMBERS.copy()).sha256
    assert packed(NUMBERS).sha256 != packed(NUMBERS + 1).sha256


def test_small_calls_have_no_pieces() -> None:
    payload = packed(np.arange(1000), b"x" * 100_000)
    assert payload.pieces == ()


def test_an_upload_that_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    payload = packed(VALUES["several pieces"])
    store = LocalStore(tmp_path / "store")
    first = payload.pieces[0]
    upload_pieces([first], store, OWNER)
    before = next(store.list("")).updated
    upload_pieces(payload.pieces, store, OWNER)
    assert {each.name for each in store.list("")} == {each["name"] for each in refs(payload)}
    assert next(each for each in store.list("") if first.sha256 in each.name).updated == before


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    payload = packed(VALUES["several pieces"])
    upload_pieces(payload.pieces, LocalStore(tmp_path / "store"), OWNER, told.append)
    assert told[-1] == "sending arguments: 67.1 MB of 67.1 MB"


def test_memory_that_changes_while_it_is_sent_is_an_error_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    array = NUMBERS.copy()
    payload = packed(array)
    array[12345] = -1
    store = LocalStore(tmp_path / "store")
    with pytest.raises(UsageError, match="changed while it was sent") as caught:
        upload_pieces(payload.pieces, store, OWNER)
    assert "pass a copy" in str(caught.value)
    assert list(store.list("")) == []


def test_a_piece_that_is_not_what_was_sent_is_refused_by_name(tmp_path: Path) -> None:
    payload = packed(NUMBERS)
    store = LocalStore(tmp_path / "store")
    upload_pieces(payload.pieces, store, OWNER)
    name = refs(payload)[0]["name"]
    (tmp_path / "store" / name).write_bytes(bytes(NUMBERS.nbytes))
    with pytest.raises(Fault, match=f"the object {name} is refused: its SHA-256"):
        fetched(payload, tmp_path, DirectoryStore(str(tmp_path / "store")))


def test_a_result_that_was_damaged_is_refused(tmp_path: Path) -> None:
    returned(NUMBERS, tmp_path)
    path = tmp_path / "store" / result_object(RUN_ID)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with pytest.raises(ValueError, match="signature"):
        open_result(data, RUN_KEY, RUN_ID)


@either_way
@pytest.mark.parametrize(
    "view",
    [
        memoryview(NUMBERS.reshape(1024, 1024)),
        memoryview(b"abcdef")[::2],
        memoryview(np.arange(3, dtype=">f8")),
        memoryview(np.zeros((0, 3))),
    ],
    ids=["table", "scattered", "big-endian", "empty"],
)
def test_a_view_of_memory_arrives_as_its_bytes(
    tmp_path: Path, way: Callable[..., Any], view: memoryview
) -> None:
    got = way(view, tmp_path)
    assert (type(got), got) == (bytes, view.tobytes())


def test_memory_is_cut_into_pieces_of_bounded_size() -> None:
    whole = np.random.default_rng(0).bytes(pieces.PIECE_LIMIT_BYTES + 3)
    found = cut(whole)
    assert [piece.size_bytes for piece in found] == [pieces.PIECE_LIMIT_BYTES, 3]
    assert b"".join(bytes(piece.data) for piece in found) == whole


def test_hashing_and_sending_can_be_done_in_threads(tmp_path: Path) -> None:
    payloads: list[Payload] = []
    threads = [
        threading.Thread(target=lambda: payloads.append(packed(VALUES["several pieces"])))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({payload.sha256 for payload in payloads}) == 1


def test_both_sides_reduce_arrays_in_the_same_way() -> None:
    here, there = (Path(str(each.__file__)).read_text() for each in (arrays, arrays_of_runs))
    assert here.split('"""', 2)[2] == there.split('"""', 2)[2]


def test_a_run_takes_and_returns_large_values(tmp_path: Path) -> None:
    source = """
        import mmap
        def main(numbers, fixed, words):
            memory = numbers
            while not isinstance(memory, mmap.mmap):
                memory = getattr(memory, "base", None) if hasattr(memory, "base") else memory.obj
            numbers *= 2
            return {"numbers": numbers, "fixed": fixed, "words": words}
    """
    payload = packed(NUMBERS, READ_ONLY, BYTES["bytes"])
    job = Job(tmp_path / "store", source=source)
    upload_pieces(payload.pieces, LocalStore(job.root), OWNER)
    function = {"module": "app", "qualname": "main"}
    job.frame = pickle.dumps({**pickle.loads(payload.content), "function": function})
    job.changes = {"pieces": refs(payload)}
    ended = job.run()
    assert ended.exit_code == 0, ended.output
    run = RunTicket(run_id=RUN_ID, name="run", run_key=RUN_KEY)
    envelope = read_result(LocalStore(job.root), run)
    assert envelope is not None
    value = unpack_result(envelope, run)
    np.testing.assert_array_equal(value["numbers"], NUMBERS * 2)
    np.testing.assert_array_equal(value["fixed"], READ_ONLY)
    assert value["numbers"].flags.writeable
    assert not value["fixed"].flags.writeable
    assert value["words"] == BYTES["bytes"]


MEASURED = """
    import resource, sys
    from pathlib import Path
    import numpy as np
    from sent_values import OWNER, LocalStore, packed, returned, upload_pieces

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

    def send(value, place):
        payload = packed(value)
        upload_pieces(payload.pieces, LocalStore(place), OWNER)

    action = {"there": send, "back": returned}[sys.argv[1]]
    action(np.ones(1 << 18), Path(sys.argv[2], "warm-up"))
    value = {
        "array": lambda size: np.ones(size // 8),
        "dates": lambda size: np.ones(size // 8, dtype="datetime64[s]"),
        "bytes": lambda size: b"x" * size,
    }[sys.argv[3]](size := 1 << 27)
    before = peak()
    action(value, Path(sys.argv[2], "real"))
    print((peak() - before) / size)
"""


@pytest.mark.parametrize("kind", ["array", "dates", "bytes"])
@pytest.mark.parametrize(("way", "copies"), [("there", 0), ("back", 1)])
def test_no_second_copy_is_made(tmp_path: Path, way: str, copies: int, kind: str) -> None:
    """What comes back is a value of its own; bytes are besides in the block that they came in."""
    (tmp_path / "warm-up").mkdir()
    (tmp_path / "real").mkdir()
    script = write_project(tmp_path / "tools", {"measure.py": MEASURED}) / "measure.py"
    grown = run_python(
        [str(script), way, str(tmp_path), kind],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parent.parent), "OPENBLAS_NUM_THREADS": "1"},
    )
    assert float(grown) < copies + (way == "back" and kind == "bytes") + 0.3


def test_a_full_disk_is_told_of_by_what_is_to_be_put_there(tmp_path: Path) -> None:
    payload = packed(NUMBERS)
    upload_pieces(payload.pieces, LocalStore(tmp_path / "store"), OWNER)
    frame = pickle.loads(payload.content)
    directory = tmp_path / "pieces"
    directory.mkdir()
    (directory / buffer_name(frame["buffers"][0])).symlink_to("/dev/full")
    store = DirectoryStore(str(tmp_path / "store"))
    words = r"the call's arguments \(8\.4 MB\) do not fit on the disk of the run, which has [\d.]+ "
    with pytest.raises(Fault, match=words) as caught:
        fetch_pieces(store, refs(payload), frame, str(directory))
    assert caught.value.exit_code == EXIT_CODE_NOT_RESTORED


def test_a_result_that_finds_no_room_is_told_of_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / BODY_FILE).symlink_to("/dev/full")
    leave_value(str(tmp_path), NUMBERS, Masks())
    outcome = read_outcome(str(tmp_path))
    assert outcome is not None
    assert (outcome["status"], outcome["exit_code"]) == ("fault", EXIT_RESULT_NOT_WRITTEN)
    words = "the result is too large: the numpy.ndarray finds no room on the disk of the run"
    assert words in outcome["message"]
    header = ResultHeader(run_id=RUN_ID, status="crashed", message=outcome["message"], exit_code=47)
    run = RunTicket(run_id=RUN_ID, name="run", run_key=RUN_KEY)
    with pytest.raises(RunCrashed, match="too large") as caught:
        unpack_result(ResultEnvelope(header=header, body=b""), run)
    assert "KINETIC_OUTPUT_DIR" in str(caught.value)
    assert "ephemeral_storage" in str(caught.value)


class Endless:
    """Something that would need more memory than there is."""

    def __reduce__(self) -> Any:
        raise MemoryError


def test_a_result_that_finds_no_memory_is_not_called_unpicklable(tmp_path: Path) -> None:
    leave_value(str(tmp_path), Endless(), Masks())
    outcome = read_outcome(str(tmp_path))
    assert outcome is not None
    assert "finds no room in memory once more, to be pickled" in outcome["message"]
