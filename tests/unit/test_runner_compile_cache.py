"""Compiled programs of a run: kept for later runs, found again, and trusted by their signature.

Here `jax` is a module with the events that the real one tells; the directory is what it shares.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from kinetic_flows.runner_image.runner import compile_cache, compile_entries
from kinetic_flows.runner_image.runner.compile_cache import CompileCache, compile_cache_of
from kinetic_flows.runner_image.runner.compile_files import OF_GPU, is_name, is_whole, kept_files
from kinetic_flows.runner_image.runner.compile_places import OF_GPUS
from kinetic_flows.runner_image.runner.compile_watch import (
    ARRIVING_FILE,
    FILLED_FILE,
    PROGRAMS_FILE,
    Programs,
    programs_of,
    wait_for_programs,
    watch_jax,
)
from kinetic_flows.runner_image.runner.prefect_api import PrefectApi
from kinetic_flows.runner_image.runner.sampler import Sampler
from kinetic_flows.runner_image.runner.stores import BucketStore, DirectoryStore

from kinetic_flows.core.compile_cache import entries_key
from kinetic_flows.core.job import COMPILE_CACHE_BLOCK_VARIABLE, COMPILE_CACHE_KEY_VARIABLE
from kinetic_flows.core.job_parts import CompileCacheSpec
from loopback.storage_wire import WireStorage
from prefect_wire import PrefectWire, serve
from runner_jobs import RUN_ID, Job, wait, wait_until

KEY, OTHER_KEY = entries_key(b"the store's"), entries_key(b"another store's")
PREFIX = "compile-cache/env/l4/"
DIRECTORY, XLA = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"
DAY = 86_400.0

JAX = {
    "jax/__init__.py": "from jax import monitoring",
    "jax/monitoring.py": """
events, durations = [], []
register_event_listener = events.append
register_event_duration_secs_listener = durations.append
""",
}
COMPILES = """
import os, sys, time, zlib
from pathlib import Path
EVENTS = "/jax/compilation_cache/"

def tell(listeners, *what):
    for each in listeners:
        each(*what)

def program(name):
    "Compile a program for a minute, unless it is kept."
    from jax import monitoring
    tell(monitoring.events, EVENTS + "compile_requests_use_cache")
    path = Path(os.environ["JAX_COMPILATION_CACHE_DIR"], name + "-cache")
    if not path.exists():
        path.write_bytes(zlib.compress((60).to_bytes(4, "big") + b"a minute's work"))
        return "compiled"
    tell(monitoring.events, EVENTS + "cache_hits")
    tell(monitoring.durations, EVENTS + "compile_time_saved_sec", 59.5)
    return zlib.decompress(path.read_bytes())[4:].decode()

def main(*names):
    return [program(name) for name in names]

def lingers(go):
    program("jit_step")
    path = Path(os.environ["JAX_COMPILATION_CACHE_DIR"], "jit_half-cache")
    path.write_bytes(zlib.compress(os.urandom(9000))[:5000])
    Path(go).touch()
    time.sleep(600)

def spoils(others):
    program("jit_step")
    directory = Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
    os.mkfifo(directory / "jit_pipe-cache")
    (directory / "jit_link-cache").symlink_to(Path(others) / "private")
    (directory / "xla_gpu_per_fusion_autotune_cache_dir").symlink_to(others)
    counted = directory.with_name("compiled-told") / "programs"
    counted.unlink()
    os.mkfifo(counted)

def plain():
    return sorted(each for each in sys.modules if each.startswith("jax"))
"""


def a_program(text: str = "program", seconds: int = 90) -> bytes:
    return zlib.compress(seconds.to_bytes(4, "big") + text.encode())


class World:
    """Runs of one prefix, in this process, and what they say."""

    def __init__(self, directory: Path, store: DirectoryStore | BucketStore) -> None:
        self.directory, self.store = directory, store
        self.said: list[str] = []
        self._runs = 0

    @contextmanager
    def a_run(
        self,
        host: int = 0,
        *,
        max_bytes: int = 1 << 20,
        environ: Mapping[str, str] | None = None,
        prefect: PrefectWire | None = None,
    ) -> Iterator[tuple[CompileCache, Path]]:
        """Give what keeps programs and JAX's directory, once what is kept is there."""
        self._runs += 1
        scratch = self.directory / f"run-{self._runs}"
        scratch.mkdir()
        has_key = {} if prefect else {COMPILE_CACHE_KEY_VARIABLE: KEY}
        spec = {"prefix": PREFIX, "max_bytes": max_bytes}
        with ExitStack() as leaving:
            start: Any = SimpleNamespace(
                job={"compile_cache": spec, "hosts": host + 1},
                environ={**has_key, **(environ or {})},
                store=self.store,
                client=None,
                lasting=str(scratch),
                leaving=leaving,
                host=host,
                output=SimpleNamespace(say=self.said.append),
                api=PrefectApi(prefect.url, RUN_ID, {}) if prefect else None,
            )
            cache = compile_cache_of(start, {})
            assert cache is not None, "nothing is kept"
            wait_for_programs(cache.told)
            yield cache, Path(cache.variables[DIRECTORY])

    def keep(self, programs: Mapping[str, bytes], host: int = 0, **more: Any) -> None:
        """Have a run compile programs."""
        with self.a_run(host, **more) as (cache, directory):
            cache.begin()
            for name, data in programs.items():
                path = directory / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
            cache.end()

    def names(self) -> set[str]:
        """Return what the store has of this prefix."""
        return {each.name.removeprefix(PREFIX) for each in self.store.list(PREFIX)}

    def put(self, name: str, *, key: str = KEY, made_at: float, told: str = f"{PREFIX}0/") -> None:
        """Put an entry into the store that was made at some time."""
        path = self.directory / "body"
        path.write_bytes(a_program())
        head = compile_entries.head_of(
            str(path),
            key,
            name=name,
            prefix_and_host=told,
            size_bytes=path.stat().st_size,
            compile_seconds=1.0,
            made_at=made_at,
        )
        self.store.put_if_absent(f"{PREFIX}0/{name}", head, str(path))

    def header(self, name: str) -> dict[str, Any]:
        """Return what an entry says of itself."""
        data = self.store.read(PREFIX + name) or b""
        header: dict[str, Any] = json.loads(data.split(b"\n")[2])
        return header


@pytest.fixture(params=["directory", "bucket"])
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "directory":
        yield World(tmp_path, DirectoryStore(str(tmp_path / "store")))
        return
    server = WireStorage().start()
    server.create_bucket("bucket")
    client = storage.Client(
        project="p",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": server.url},
    )
    yield World(tmp_path, BucketStore(client, "bucket", "below"))
    server.stop()


@pytest.fixture
def here(tmp_path: Path) -> World:
    return World(tmp_path, DirectoryStore(str(tmp_path / "store")))


# Runs


def a_job(directory: Path, function: str = "main", *args: str) -> Job:
    spec = CompileCacheSpec(prefix=PREFIX, max_bytes=1 << 20)
    return Job(
        directory / "store",
        COMPILES,
        function,
        args=args,
        files=JAX,
        changes={"compile_cache": spec, "grace_seconds": 1.0},
        variables={COMPILE_CACHE_KEY_VARIABLE: KEY},
    )


def test_a_run_loads_what_an_earlier_one_has_compiled_and_says_what_that_saved(
    tmp_path: Path,
) -> None:
    first = a_job(tmp_path, "main", "jit_a", "jit_b")
    assert "2 programs, none from the cache\n" in first.run().output
    assert first.value() == ["compiled", "compiled"]
    first.result_path.unlink()

    second = a_job(tmp_path, "main", "jit_a", "jit_b", "jit_c")
    assert "3 programs, 2 from the cache, 1 min 59 s saved\n" in second.run().output
    found = second.value()
    assert found == ["a minute's work", "a minute's work", "compiled"]


def test_what_was_compiled_is_kept_when_the_run_is_stopped_and_no_half_of_it(
    tmp_path: Path,
) -> None:
    go = tmp_path / "go"
    job = a_job(tmp_path, "lingers", str(go))
    process = job.start()
    wait_until(go.exists)
    process.terminate()
    assert wait(process).exit_code == 143
    kept = DirectoryStore(str(job.root)).list(PREFIX)
    assert [each.name for each in kept] == [f"{PREFIX}0/jit_step-cache"]


def test_what_else_a_function_makes_in_the_directories_neither_holds_it_up_nor_is_stored(
    tmp_path: Path,
) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "private").write_bytes(a_program("private"))
    job = a_job(tmp_path, "spoils", str(others))
    assert job.run().exit_code == 0
    kept = DirectoryStore(str(job.root)).list(PREFIX)
    assert [each.name for each in kept] == [f"{PREFIX}0/jit_step-cache"]


def test_a_function_without_jax_imports_none_of_it_and_waits_for_nothing(tmp_path: Path) -> None:
    job = a_job(tmp_path, "plain")
    assert "programs" not in job.run().output
    assert job.value() == []
    assert not list((tmp_path / "store").glob("compile-cache"))


def test_what_the_caller_says_of_jaxs_cache_holds(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    job = a_job(tmp_path, "main", "jit_a")
    assert job.run(JAX_COMPILATION_CACHE_DIR=str(own)).exit_code == 0
    assert [each.name for each in own.iterdir()] == ["jit_a-cache"]
    assert not (tmp_path / "store" / "compile-cache").exists()


# Entries


def test_programs_are_brought_as_they_were_and_stored_once(world: World) -> None:
    programs = {
        "jit_step-aa-cache": a_program("x" * 5_000),
        "jit_f-bb-cache": b"\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00abc",
        f"{OF_GPU}/cc.textproto": b"version: 3",
    }
    world.keep(programs)
    assert world.names() == {f"0/{name}" for name in programs}
    assert world.header("0/jit_step-aa-cache")["compile_seconds"] == 90.0
    made = {each.name: each.made_at for each in world.store.list(PREFIX)}
    with world.a_run() as (cache, directory):
        cache.begin()
        assert {each.name for each in kept_files(str(directory))} == set(programs)
        assert all((directory / name).read_bytes() == data for name, data in programs.items())
        assert directory.stat().st_mode & 0o077 == 0
        cache.end()
    assert {each.name: each.made_at for each in world.store.list(PREFIX)} == made
    assert world.said == []


@pytest.mark.parametrize("spoil", ["body", "key", "name", "host", "cut", "empty"])
def test_what_is_not_signed_for_its_place_is_never_loaded_and_is_replaced(
    here: World, spoil: str
) -> None:
    name, stored = "jit_a-cache", here.directory / "store" / PREFIX / "0" / "jit_a-cache"
    here.put("jit_good-cache", made_at=time.time())
    here.put(
        "jit_other-cache" if spoil == "name" else name,
        key=OTHER_KEY if spoil == "key" else KEY,
        told=f"{PREFIX}1/" if spoil == "host" else f"{PREFIX}0/",
        made_at=time.time(),
    )
    if spoil == "name":
        stored.with_name("jit_other-cache").rename(stored)
    data = stored.read_bytes()
    changed = {"body": data[:-1] + b"!", "cut": data[:-3], "empty": b""}
    stored.write_bytes(changed.get(spoil, data))
    with here.a_run() as (cache, directory):
        assert [each.name for each in kept_files(str(directory))] == ["jit_good-cache"]
        cache.begin()
        (directory / name).write_bytes(a_program("own"))
        cache.end()
    assert len(here.said) == 1
    assert here.said[0].startswith("ignored 1 of the compiled programs in the store: ")
    with here.a_run() as (_, directory):
        assert (directory / name).read_bytes() == a_program("own")
    assert len(here.said) == 1


def test_hosts_keep_theirs_apart_and_have_those_of_the_first_host_too(world: World) -> None:
    world.keep({"jit_a-cache": a_program("of 0")}, host=0)
    world.keep({"jit_b-cache": a_program("of 1")}, host=1)
    world.keep({"jit_a-cache": a_program("of 2"), "jit_c-cache": a_program("of 2")}, host=2)
    assert world.names() == {"0/jit_a-cache", "1/jit_b-cache", "2/jit_c-cache"}
    with world.a_run(host=1) as (_, directory):
        assert {each.name for each in kept_files(str(directory))} == {"jit_a-cache", "jit_b-cache"}
    with world.a_run(host=0) as (_, directory):
        assert {each.name for each in kept_files(str(directory))} == {"jit_a-cache"}


def test_what_is_used_and_old_is_written_anew_and_what_is_not_used_is_left_to_expire(
    world: World,
) -> None:
    before = time.time()
    for name, age in (("used", 2 * DAY), ("unused", 2 * DAY), ("young", DAY / 2)):
        world.put(f"jit_{name}-cache", made_at=before - age)
    with world.a_run() as (cache, directory):
        cache.begin()
        for name in ("used", "young"):
            (directory / f"jit_{name}-cache").read_bytes()
        # Where the file system keeps no times of access, all count that were brought.
        notes_reads = cache._notes_reads
        cache.end()
    ages = {name: before - world.header(f"0/{name}")["made_at"] for name in sorted(_names(world))}
    if notes_reads:
        assert ages["jit_used-cache"] <= 0
    assert ages["jit_unused-cache"] == pytest.approx(2 * DAY)
    assert ages["jit_young-cache"] == pytest.approx(DAY / 2)


def _names(world: World) -> set[str]:
    return {name.removeprefix("0/") for name in world.names()}


def test_the_oldest_go_when_there_are_too_many_bytes(world: World) -> None:
    world.keep({"jit_a-cache": a_program("a")})
    # Both kinds of stores tell when something was written, one of them in milliseconds.
    time.sleep(0.01)
    world.keep({"jit_b-cache": a_program("b")}, host=1)
    size = sum(each.size_bytes for each in world.store.list(PREFIX)) // 2
    time.sleep(0.01)
    world.keep({"jit_c-cache": a_program("c")}, max_bytes=int(2.5 * size))
    assert world.names() == {"1/jit_b-cache", "0/jit_c-cache"}
    with world.a_run(max_bytes=int(1.5 * size)) as (_, directory):
        assert [each.name for each in kept_files(str(directory))] == ["jit_c-cache"]


def test_what_is_new_is_stored_while_the_run_goes_on(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_cache, "STORE_SECONDS", (0.02,))
    with here.a_run() as (cache, directory):
        cache.begin()
        (directory / "jit_half-cache").write_bytes(a_program()[:-4])
        (directory / "jit_a-cache").write_bytes(a_program())
        wait_until(lambda: here.names() == {"0/jit_a-cache"})
        (directory / "jit_half-cache").write_bytes(a_program())
        wait_until(lambda: here.names() == {"0/jit_a-cache", "0/jit_half-cache"})


def test_a_run_that_a_worker_started_has_the_key_of_prefect(here: World) -> None:
    named = {COMPILE_CACHE_BLOCK_VARIABLE: "kinetic-compile-cache-ab"}
    with serve() as prefect:
        prefect.secrets["kinetic-compile-cache-ab"] = KEY
        here.keep({"jit_a-cache": a_program()}, prefect=prefect, environ=named)
        with here.a_run() as (_, directory):
            assert [each.name for each in kept_files(str(directory))] == ["jit_a-cache"]
        assert here.said == []
        prefect.secrets.clear()
        here.keep({"jit_b-cache": a_program()}, prefect=prefect, environ=named)
    assert here.names() == {"0/jit_a-cache"}
    assert len(here.said) == 1
    assert here.said[0].startswith("compiled programs are not brought from the store: HTTP 404")


def test_a_store_that_fails_is_said_once_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no directory")
    world = World(tmp_path, DirectoryStore(str(tmp_path / "store")))
    world.keep({"jit_a-cache": a_program(), "jit_b-cache": a_program()})
    assert len(world.said) == 1
    assert world.said[0].startswith("compiled programs are not brought from the store: ")


# Files


@pytest.mark.parametrize(
    "whole",
    [
        pytest.param(a_program("x" * 999), id="zlib"),
        pytest.param(b"\x28\xb5\x2f\xfd\x20\x03\x19\x00\x00abc", id="zstd"),
        # Two blocks, of which the first repeats a byte, and a checksum.
        pytest.param(
            b"\x28\xb5\x2f\xfd\x04\x58\x22\x03\x00z\x19\x00\x00abc\x01\x02\x03\x04",
            id="zstd-blocks",
        ),
    ],
)
def test_a_part_of_a_program_is_not_taken_for_one(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "jit_a-cache"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert not is_whole(kept_files(str(tmp_path))[0], is_over=True)
    path.write_bytes(whole)
    assert is_whole(kept_files(str(tmp_path))[0], is_over=False)


@pytest.mark.parametrize(
    "name",
    ["../jit_a-cache", ".lockfile", "a/b-cache", f"{OF_GPU}/../x", "jit_a-atime", "", "a\nb"],
)
def test_no_other_file_is_a_program(name: str) -> None:
    assert not is_name(name)


def test_jax_has_a_time_of_access_for_each_program_it_may_remove(here: World) -> None:
    here.put("jit_a-cache", made_at=time.time())
    with here.a_run() as (_, directory):
        assert len((directory / "jit_a-atime").read_bytes()) == 8


# Waiting, and what JAX is told


def test_the_first_program_waits_only_while_others_still_come(tmp_path: Path) -> None:
    arriving = tmp_path / ARRIVING_FILE
    assert 0.05 <= wait_for_programs(str(tmp_path), stall_seconds=0.05) < 2.0

    def come() -> None:
        for _ in range(8):
            arriving.touch()
            time.sleep(0.05)
        (tmp_path / FILLED_FILE).touch()

    thread = threading.Thread(target=come)
    thread.start()
    assert wait_for_programs(str(tmp_path), stall_seconds=3.0) >= 0.3
    thread.join()
    assert wait_for_programs(str(tmp_path)) < 0.05


def test_a_run_that_takes_long_to_bring_all_is_not_waited_for(tmp_path: Path) -> None:
    stop = threading.Event()

    def come() -> None:
        while not stop.wait(0.01):
            (tmp_path / ARRIVING_FILE).touch()

    thread = threading.Thread(target=come)
    thread.start()
    waited = wait_for_programs(str(tmp_path), most_seconds=0.2, stall_seconds=3.0)
    stop.set()
    thread.join()
    assert 0.2 <= waited < 2.0


def test_jax_that_was_imported_with_the_interpreter_is_watched_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Any] = []
    there = SimpleNamespace(
        register_event_listener=events.append,
        register_event_duration_secs_listener=events.append,
    )
    monkeypatch.setitem(sys.modules, "jax.monitoring", there)
    (tmp_path / FILLED_FILE).touch()
    watch_jax(str(tmp_path))
    on_event, on_duration = events
    on_event("/jax/compilation_cache/compile_requests_use_cache")
    on_event("/jax/compilation_cache/cache_hits", fun_name="step")
    on_duration("/jax/compilation_cache/compile_time_saved_sec", 2.5)
    assert programs_of(str(tmp_path)) == Programs(1, 1, 2.5)


def test_what_was_counted_on_a_full_disk_ends_no_run(tmp_path: Path) -> None:
    (tmp_path / PROGRAMS_FILE).write_bytes(b"request\nhit\nsaved 3.5\nsaved inf\nsaved \nsav")
    assert programs_of(str(tmp_path)) == Programs(1, 1, 3.5)


def test_hosts_that_wait_for_one_another_to_compile_share_none(here: World) -> None:
    gpus = {"KINETIC_DEVICES": "gpu:8"}
    with pytest.raises(AssertionError, match="nothing is kept"), here.a_run(host=1, environ=gpus):
        pass
    one_compiles = {"JAX_SHARE_BINARY_BETWEEN_HOSTS": "True"}
    with (
        pytest.raises(AssertionError, match="nothing is kept"),
        here.a_run(host=1, environ=one_compiles),
    ):
        pass
    with here.a_run(host=1, environ={"KINETIC_DEVICES": "tpu:4"}):
        pass


def test_the_directories_of_a_run_are_in_no_names_of_source_files(here: World) -> None:
    with here.a_run() as (cache, _):
        pattern = cache.variables["JAX_HLO_SOURCE_FILE_CANONICALIZATION_REGEX"]
    for below in ("", "start-2/"):
        path = f"{here.directory}/run-1/{below}workspace/kernels.py"
        assert re.sub(pattern, "", path) == "workspace/kernels.py"
    assert re.sub(pattern, "", "/usr/lib/python3/kernels.py") == "/usr/lib/python3/kernels.py"


def test_only_on_gpus_keys_depend_on_a_directory_which_is_then_always_the_same(
    here: World,
) -> None:
    with here.a_run(environ={"KINETIC_DEVICES": "tpu:4"}) as (cache, directory):
        assert cache.variables[XLA] == "none"
        assert directory.is_relative_to(here.directory)
    with here.a_run(environ={"KINETIC_DEVICES": "gpu:1"}) as (cache, directory):
        assert str(directory) == OF_GPUS or cache.variables[XLA] == "none"
    with here.a_run(environ={XLA: "none", "KINETIC_DEVICES": "gpu:1"}) as (cache, directory):
        assert XLA not in cache.variables
        assert directory.is_relative_to(here.directory)


@pytest.mark.parametrize(
    ("programs", "sentence"),
    [
        (Programs(), ""),
        (Programs(1, 0, 0.0), "1 program, none from the cache"),
        (Programs(12, 11, 480.2), "12 programs, 11 from the cache, 8 min 0 s saved"),
        (Programs(12, 12, 0.4), "12 programs, 12 from the cache"),
    ],
)
def test_what_became_of_the_programs_is_said_in_a_sentence(
    programs: Programs, sentence: str
) -> None:
    assert programs.sentence == sentence


def test_the_page_of_a_run_without_readings_has_the_sentence_alone() -> None:
    start: Any = SimpleNamespace(job={"hosts": 1}, host=0, attempt=0, environ={})
    sampler = Sampler(start, {}, "metrics")
    assert sampler.markdown() == ""
    sampler.also = lambda: "12 programs, 11 from the cache"
    assert sampler.markdown() == "- 12 programs, 11 from the cache"
