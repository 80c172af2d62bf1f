"""Local data gets to the store once, whole, and to the run as it was."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from kinetic_flows.runner_image.runner.data import Around, bring_data
from kinetic_flows.runner_image.runner.stores import DirectoryStore

from kinetic_flows.code.data import known
from kinetic_flows.code.data.format import PART_BYTES, pack_digest
from kinetic_flows.code.data.listening import Sent, Unheard
from kinetic_flows.code.data.manifest import Pack, Part, read_objects
from kinetic_flows.code.data.scan import Scan, scan
from kinetic_flows.code.data.sources import DataSources, Surroundings
from kinetic_flows.code.data.upload import upload
from kinetic_flows.code.data.walk import Walk
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import PackagingError, StoreError
from kinetic_flows.core.interruption import interruptible
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import DataSpec
from kinetic_flows.platforms.local.store import LocalStore
from stored_data import as_said


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with all that a directory can have."""
    tree = tmp_path / "source" / "tree"
    (tree / "a" / "deep").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "a" / "one").write_bytes(b"1")
    (tree / "a" / "deep" / "two").write_bytes(b"22")
    (tree / "a.txt").write_bytes(b"between a and its files, by its name")
    (tree / "nothing").write_bytes(b"")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o700)
    (tree / os.fsdecode(b"no-utf-8-\xff")).write_bytes(b"bytes")
    (tree / "link").symlink_to("a/one")
    return tree


def sources_of(home: Path, store: LocalStore, **changes: bool) -> DataSources:
    around = {"sees_files": False, **changes}
    return DataSources(
        Surroundings(home=home, environ={}, store=store, open_bucket=lambda _: store, **around)
    )


def brought(spec: DataSpec, store_root: Path, scratch: Path) -> Path:
    """Return where a run finds data."""
    scratch.mkdir(exist_ok=True)
    with ExitStack() as leaving:
        around = Around(
            store=DirectoryStore(str(store_root)),
            client=None,
            environ={},
            scratch=str(scratch),
            say=lambda _: None,
            leaving=leaving,
        )
        (path,) = bring_data([as_said(spec)], around)
        copy = scratch / "copy"
        subprocess.run(["cp", "-a", path, copy], check=True)
        return copy


def contents(root: Path) -> dict[str, object]:
    """Return all that is in a directory: links, contents with whether they may be executed."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
        else:
            found[name] = "directory"
    return found


def identity(data: Data, home: Path) -> str:
    return scan(data, home).manifest.identity


def test_a_run_gets_the_directory_as_it_was(
    tree: Path, home: Path, store: LocalStore, tmp_path: Path
) -> None:
    (tree / "large").write_bytes(random.Random(1).randbytes(1000) * (PART_BYTES // 1000 + 7))
    spec = sources_of(home, store).ready(Data(tree))
    copy = brought(spec, tmp_path / "store", tmp_path / "scratch")
    assert contents(copy) == contents(tree)
    assert (spec.files, spec.size_bytes) == (
        7,
        sum(
            path.stat().st_size
            for path in tree.rglob("*")
            if not path.is_symlink() and path.is_file()
        ),
    )


def test_a_run_gets_a_file_under_its_name(tmp_path: Path, home: Path, store: LocalStore) -> None:
    file = tmp_path / "table.csv"
    file.write_bytes(b"a,b\n")
    spec = sources_of(home, store).ready(Data(file))
    copy = brought(spec, tmp_path / "store", tmp_path / "scratch")
    assert (spec.is_file, spec.name, copy.read_bytes()) == (True, "table.csv", b"a,b\n")


def test_nothing_is_sent_that_the_store_has(tree: Path, home: Path, store: LocalStore) -> None:
    first = upload(scan(Data(tree), home), store, home)
    again = upload(scan(Data(tree), home), store, home)
    assert first.sent_bytes > 0
    assert again.sent_bytes == 0


def test_what_changes_is_sent_alone(tmp_path: Path, home: Path, store: LocalStore) -> None:
    chance, folder = random.Random(2), tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}").write_bytes(chance.randbytes(1 << 20))
    first = upload(scan(Data(folder), home), store, home)
    (folder / "30").write_bytes(b"another")
    second = upload(scan(Data(folder), home), store, home)
    assert first.sent_bytes > 60 << 20
    assert second.sent_bytes < 34 << 20


def test_what_is_asked_for_at_a_time_is_bounded_in_files_too(
    tmp_path: Path, home: Path, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "t"
    tree.mkdir()
    for number in range(60):
        (tree / f"{number}").write_bytes(random.Random(number).randbytes(1 << 20))
    asked: list[int] = []

    class Asked(LocalStore):
        def missing(self, names: Iterable[str]) -> set[str]:
            asked.append(len(list(names)))
            return super().missing(names)

    monkeypatch.setattr("kinetic_flows.code.data.upload.WINDOW_FILES", 20)
    upload(scan(Data(tree), home), Asked(tmp_path / "store"), home)
    packs = len(list(store.list("data/packs/")))
    assert sum(asked) == packs + 1
    assert max(asked) < packs


def test_text_is_sent_deflated_and_noise_as_it_is(
    tmp_path: Path, home: Path, store: LocalStore
) -> None:
    text, noise = tmp_path / "text", tmp_path / "noise"
    text.write_bytes(b"many equal lines\n" * 100_000)
    noise.write_bytes(random.Random(3).randbytes(1_000_000))
    assert upload(scan(Data(text), home), store, home).sent_bytes < 100_000
    assert upload(scan(Data(noise), home), store, home).sent_bytes > 1_000_000


def test_identity_is_of_content_names_and_modes_alone(tree: Path, home: Path) -> None:
    first = identity(Data(tree), home)
    os.utime(tree / "a" / "one", (0, 0))
    moved = tree.rename(tree.parent / "other")
    assert identity(Data(moved), home) == first
    changes: list[Callable[[], object]] = [
        lambda: (moved / "a" / "one").chmod(0o755),
        lambda: (moved / "a" / "one").write_bytes(b"2"),
        lambda: (moved / "a.txt").rename(moved / "b.txt"),
        lambda: (moved / "empty").rmdir(),
        lambda: ((moved / "link").unlink(), (moved / "link").symlink_to("a/deep")),
    ]
    seen = {first}
    for change in changes:
        change()
        seen.add(identity(Data(moved), home))
    assert len(seen) == len(changes) + 1


def test_unchanged_files_are_not_read_again(tree: Path, home: Path) -> None:
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            # Long ago, so that no change can be missed.
            os.utime(path, (1_000_000_000, 1_000_000_000.5))
    wait_for_tick(tree)
    first = identity(Data(tree), home)
    for path in tree.rglob("*"):
        if path.is_file() and not path.is_symlink():
            keep = path.stat()
            path.write_bytes(b"x" * keep.st_size)
            os.utime(path, ns=(keep.st_atime_ns, keep.st_mtime_ns))
    # Their ctime tells.
    assert identity(Data(tree), home) != first


def wait_for_tick(tree: Path) -> None:
    """Wait until the file system's clock has gone on far enough for files to be remembered."""
    probe = tree.parent / "probe"
    begin = max(path.lstat().st_ctime_ns for path in tree.rglob("*"))
    while True:
        probe.write_bytes(b"")
        if probe.stat().st_ctime_ns > begin + 200_000_000:
            return


def test_known_files_are_not_opened(tree: Path, home: Path) -> None:
    wait_for_tick(tree)
    first = identity(Data(tree), home)
    script = (
        "import sys; from pathlib import Path; opened = []\n"
        "sys.addaudithook(lambda name, args: name == 'open' and opened.append(str(args[0])))\n"
        "from kinetic_flows.code.data.scan import scan; from kinetic_flows.core.data import Data\n"
        "found = scan(Data(sys.argv[1]), Path(sys.argv[2])).manifest.identity\n"
        "print(found, sum(path.startswith(sys.argv[1]) for path in opened))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tree, home], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [first, "0"]


def test_a_note_that_files_are_still_there_is_not_kept_in_memory(
    tree: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait_for_tick(tree)
    scan(Data(tree), home)
    (path,) = (home / "cache" / "data").glob("*.sqlite")
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("UPDATE files SET day = day - ?", (known.NOTED_AGAIN_DAYS + 1,))
    monkeypatch.setattr(known, "COMMIT_EVERY", 1)
    files = known.KnownFiles(path)
    assert files.find(list(Walk(Data(tree))))
    days = {day for (day,) in database.execute("SELECT day FROM files")}
    assert days == {int(time.time() // 86_400)}
    files.close()
    database.close()


@pytest.mark.parametrize("damage", [b"", b"no database", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_memory_of_files_is_made_anew(tree: Path, home: Path, damage: bytes) -> None:
    first = identity(Data(tree), home)
    (database,) = (home / "cache" / "data").glob("*.sqlite")
    database.write_bytes(damage)
    assert identity(Data(tree), home) == first
    assert identity(Data(tree), home) == first


def test_links_that_lead_out_are_followed_and_those_inside_stay(
    tmp_path: Path, home: Path, store: LocalStore
) -> None:
    # As the cache of huggingface_hub has its snapshots.
    (tmp_path / "blobs" / "shards").mkdir(parents=True)
    (tmp_path / "blobs" / "weights").write_bytes(b"weights")
    (tmp_path / "blobs" / "shards" / "0").write_bytes(b"0")
    tree = tmp_path / "snapshot"
    (tree / "sub").mkdir(parents=True)
    (tree / "weights.bin").symlink_to("../blobs/weights")
    (tree / "shards").symlink_to(tmp_path / "blobs" / "shards")
    (tree / "sub" / "own").write_bytes(b"own")
    (tree / "absolute").symlink_to(tree / "sub" / "own")
    (tree / "directory").symlink_to("sub")
    spec = sources_of(home, store).ready(Data(tree))
    copy = brought(spec, tmp_path / "store", tmp_path / "scratch")
    assert contents(copy) == {
        "absolute": "-> sub/own",
        "directory": "-> sub",
        "shards": "directory",
        "shards/0": (b"0", False),
        "sub": "directory",
        "sub/own": (b"own", False),
        "weights.bin": (b"weights", False),
    }


def test_what_is_no_file_is_left_out_and_told_of(tmp_path: Path, home: Path) -> None:
    tree = tmp_path / "t"
    tree.mkdir()
    (tree / "file").write_bytes(b"x")
    os.mkfifo(tree / "pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tree / "socket"))
    server.close()
    (tree / "nowhere").symlink_to("missing")
    found = scan(Data(tree), home)
    told = "\n".join(found.warnings)
    assert found.manifest.files == 1
    assert "pipe, socket is no file" in told
    assert "nowhere" in told


def test_a_link_that_goes_meanwhile_is_left_out_and_told_of(
    tree: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: bytes, **_: object) -> bytes:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr(os, "readlink", gone)
    found = scan(Data(tree), home)
    assert any("link leads nowhere" in warning for warning in found.warnings)


def test_a_circle_of_links_ends(tmp_path: Path, home: Path) -> None:
    outside, tree = tmp_path / "outside", tmp_path / "tree"
    outside.mkdir()
    tree.mkdir()
    (tree / "out").symlink_to(outside)
    (outside / "back").symlink_to(tree)
    (outside / "file").write_bytes(b"x")
    found = scan(Data(tree), home)
    assert found.manifest.files == 1
    assert "out/back" in "\n".join(found.warnings)


def test_secrets_are_left_out_with_a_warning_and_named_ones_go_along(
    tmp_path: Path, home: Path
) -> None:
    tree = tmp_path / "t"
    (tree / ".ssh").mkdir(parents=True)
    (tree / "file").write_bytes(b"x")
    (tree / ".env").write_bytes(b"TOKEN=1")
    (tree / ".ssh" / "id_ed25519").write_bytes(b"x")
    (tree / "key.txt").write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    found = scan(Data(tree), home)
    assert paths_of(found) == ["file"]
    assert all(name in found.warnings[0] for name in (".env", ".ssh/", "key.txt"))
    # Known files are no less secret.
    assert paths_of(scan(Data(tree), home)) == ["file"]
    named = scan(Data(tree, include=["file", ".env", "*.txt"]), home)
    assert paths_of(named) == [".env", "file", "key.txt"]
    every = scan(Data(tree, include=["*"]), home)
    assert paths_of(every) == ["file"]


def paths_of(found: Scan) -> list[str]:
    members = (item.members for item in read_objects(found.manifest.path) if isinstance(item, Pack))
    return [member.path for some in members for member in some]


def test_nothing_but_secrets_is_refused(tmp_path: Path, home: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / ".env").write_bytes(b"TOKEN=1")
    with pytest.raises(PackagingError, match="looks like secrets"):
        scan(Data(tmp_path / "t"), home)


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        (["*.csv"], [], ["a.csv", "raw/b.csv"]),
        (["raw"], [], ["raw/b.csv", "raw/deep/c.txt"]),
        (["raw/"], ["*.txt"], ["raw/b.csv"]),
        (None, ["raw"], ["a.csv", "d.txt"]),
        (None, ["raw/deep"], ["a.csv", "d.txt", "raw/b.csv"]),
        (["*.[ct]sv", "d.*"], ["a*"], ["d.txt", "raw/b.csv"]),
    ],
)
def test_patterns_say_which_files_are_meant(
    tmp_path: Path, home: Path, include: list[str] | None, exclude: list[str], taken: list[str]
) -> None:
    for name in ("a.csv", "d.txt", "raw/b.csv", "raw/deep/c.txt"):
        path = tmp_path / "t" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    assert paths_of(scan(Data(tmp_path / "t", include=include, exclude=exclude), home)) == taken


def test_patterns_that_nothing_matches_are_refused(tree: Path, home: Path) -> None:
    with pytest.raises(PackagingError, match="no file in it matches"):
        scan(Data(tree, include=["*.parquet"]), home)


def test_an_empty_directory_is_refused(tmp_path: Path, home: Path) -> None:
    (tmp_path / "t").mkdir()
    with pytest.raises(PackagingError, match="there is no file in it"):
        scan(Data(tmp_path / "t"), home)
    assert not any((home / "cache" / "data" / "manifests").iterdir())


@contextmanager
def as_nobody(*, owned: Path) -> Iterator[None]:
    """Do something without the rights of root, which may read everything."""
    if os.geteuid() != 0:
        yield
        return
    for path in (owned, *owned.rglob("*")):
        os.chown(path, 65_534, 65_534)
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_that_cannot_be_read_are_all_named() -> None:
    # Those of pytest are closed to others.
    with TemporaryDirectory() as folder, ExitStack() as cleanup:
        tree, home = Path(folder) / "t", Path(folder) / "home"
        (tree / "deep").mkdir(parents=True)
        for name in ("one", "two", "deep/three"):
            (tree / name).write_bytes(b"x")
        for closed in (tree / "one", tree / "deep"):
            closed.chmod(0)
            cleanup.callback(closed.chmod, 0o700)
        with as_nobody(owned=Path(folder)), pytest.raises(PackagingError) as refused:
            scan(Data(tree), home)
    assert "deep/, one cannot be read" in str(refused.value)


def test_a_file_that_cannot_be_looked_at_is_named(tmp_path: Path, home: Path) -> None:
    tree = tmp_path / "t"
    tree.mkdir()
    (tree / "file").write_bytes(b"1")
    # Its directory can be listed, its own path is too long for the system.
    place, handle = str(tree), os.open(tree, os.O_RDONLY)
    while len(place) < 3850:
        os.mkdir("d" * 200, dir_fd=handle)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        place, handle = f"{place}/{'d' * 200}", below
    os.close(os.open("f" * 250, os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)
    with pytest.raises(PackagingError, match="ffff cannot be read"):
        scan(Data(tree), home)


@pytest.mark.parametrize("what", ["file", "tree"])
def test_what_is_gone_before_it_is_sent_is_named(
    tmp_path: Path, home: Path, store: LocalStore, what: str
) -> None:
    source = tmp_path / what
    if what == "tree":
        source.mkdir()
    (source / "file" if what == "tree" else source).write_bytes(b"1")
    scanned = scan(Data(source), home)
    shutil.rmtree(source) if what == "tree" else source.unlink()
    with pytest.raises(PackagingError, match=f"{what} cannot be read"):
        upload(scanned, store, home)
    assert not list(store.list("data/manifests/"))


@pytest.mark.parametrize("what", ["missing", "pipe"])
def test_what_is_not_there_is_refused_at_once(
    tmp_path: Path, home: Path, store: LocalStore, what: str
) -> None:
    if what == "pipe":
        os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PackagingError, match=r"does not exist|neither a file nor a directory"):
        sources_of(home, store).check([Data(tmp_path / what)])


class Interfering(Unheard):
    """Does something when it is first told how far it is.

    Args:
        act: Does it.
        when: Whether that is of reading or of sending.
    """

    def __init__(self, act: Callable[[], object], when: str = "sent") -> None:
        self._act: Callable[[], object] | None = act
        self._when = when
        self._lock = threading.Lock()

    def read(self, files: int, size_bytes: int) -> None:
        self._interfere("read")

    def sent(self, sent: Sent) -> None:
        self._interfere("sent")

    def _interfere(self, when: str) -> None:
        if when != self._when:
            return
        with self._lock:
            act, self._act = self._act, None
        if act:
            act()


def packs_of_their_own(tree: Path) -> Path:
    """Make files of which each is a pack; return that which is sent last."""
    tree.mkdir()
    packs = {}
    for number in range(6):
        content = random.Random(number).randbytes(1 << 20) * 17
        (tree / f"{number}").write_bytes(content)
        packs[pack_digest([sha256_hex(content)])] = tree / f"{number}"
    return packs[max(packs)]


def test_a_file_that_changes_while_it_is_sent_is_sent_as_it_is_then(
    tmp_path: Path, home: Path, store: LocalStore
) -> None:
    tree = tmp_path / "t"
    late = packs_of_their_own(tree)
    change = Interfering(lambda: late.write_bytes(b"changed"))
    done = upload(scan(Data(tree), home), store, home, change)
    again = scan(Data(tree), home)
    assert done.scan.manifest.identity == again.manifest.identity
    assert upload(again, store, home).sent_bytes == 0


def test_a_file_that_goes_while_it_is_sent_is_not_in_the_data(
    tmp_path: Path, home: Path, store: LocalStore
) -> None:
    tree = tmp_path / "t"
    late = packs_of_their_own(tree)
    done = upload(scan(Data(tree), home), store, home, Interfering(late.unlink))
    assert done.scan.manifest.files == 5


def test_a_file_that_never_rests_is_named(tmp_path: Path, home: Path, store: LocalStore) -> None:
    tree = tmp_path / "t"
    tree.mkdir()
    (tree / "log").write_bytes(b"0")
    numbers = itertools.count(1)

    class Restless(LocalStore):
        def missing(self, names: Iterable[str]) -> set[str]:
            # Each time that it has been read.
            (tree / "log").write_bytes(b"%d" % next(numbers))
            return super().missing(names)

    with pytest.raises(PackagingError, match="log keeps changing"):
        upload(scan(Data(tree), home), Restless(tmp_path / "restless"), home)
    assert not list(Restless(tmp_path / "restless").list("data/manifests/"))


class Breaking(LocalStore):
    """A store that goes away after some writes."""

    def __init__(self, root: Path, writes: int) -> None:
        super().__init__(root)
        self._left = writes
        self._counting = threading.Lock()

    def put_if_absent(self, name: str, data: bytes | Path) -> bool:
        with self._counting:
            self._left -= 1
            if self._left < 0:
                raise StoreError("the store went away", value=name)
        return super().put_if_absent(name, data)


def test_what_was_interrupted_goes_on_where_it_was(
    tmp_path: Path, home: Path, store: LocalStore
) -> None:
    data = tmp_path / "large"
    data.write_bytes(random.Random(5).randbytes(1 << 20) * (5 * PART_BYTES >> 20))
    with data.open("r+b") as file:
        for part in range(5):
            file.seek(part * PART_BYTES)
            file.write(b"%d" % part)
    with pytest.raises(StoreError, match="went away"):
        upload(scan(Data(data), home), Breaking(tmp_path / "store", 4), home)
    assert not list(store.list("data/manifests/"))
    done = upload(scan(Data(data), home), store, home)
    assert PART_BYTES < done.sent_bytes < 3 * PART_BYTES
    assert len(list(store.list("data/parts/"))) == 5
    assert len(list(store.list("data/manifests/"))) == 1


@pytest.mark.parametrize("when", ["read", "sent"])
def test_an_interrupted_call_stops_and_leaves_nothing_half_done(
    tree: Path, home: Path, store: LocalStore, when: str
) -> None:
    for number in range(1_500):
        (tree / f"{number}").write_bytes(b"%d" % number)
    ended: list[BaseException] = []

    def work() -> None:
        interruption = threading.Event()
        interruptible(interruption)
        listener = Interfering(interruption.set, when)
        try:
            upload(scan(Data(tree), home, listener=listener), store, home, listener)
        except KeyboardInterrupt as interrupt:
            ended.append(interrupt)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(ended) == 1
    assert not list(store.list("data/manifests/"))
    assert not list((home / "cache" / "data" / "manifests").glob(".*"))
    assert upload(scan(Data(tree), home), store, home).scan.manifest.files == 1_506


def test_two_clients_that_send_the_same_at_once_agree(
    tree: Path, tmp_path: Path, store: LocalStore
) -> None:
    specs = []

    def send(number: int) -> None:
        specs.append(sources_of(tmp_path / f"home-{number}", store).ready(Data(tree)))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(repr, specs))) == 1


def test_a_plan_sends_nothing_and_says_how_much_it_would(
    tree: Path, home: Path, store: LocalStore
) -> None:
    data, sources = Data(tree), sources_of(home, store)
    assert sources.unsent_bytes(data) == sources.spec(data).size_bytes
    assert not list(store.list(""))
    sources.ready(data)
    assert sources.unsent_bytes(data) == 0


def test_runs_that_see_the_files_use_them_where_they_are(
    tree: Path, home: Path, store: LocalStore
) -> None:
    spec = sources_of(home, store, sees_files=True).ready(Data(tree))
    assert (spec.path, spec.manifest, spec.identity) == (str(tree), None, "")
    assert not home.exists()


def test_the_identity_of_what_is_used_where_it_is_is_known_if_results_are_compared(
    tree: Path, home: Path, store: LocalStore
) -> None:
    spec = sources_of(home, store, sees_files=True, is_compared=True).ready(Data(tree))
    assert (spec.path, spec.manifest) == (str(tree), None)
    assert spec.identity == sources_of(home, store).spec(Data(tree)).identity
    assert not list(store.list(""))


def test_a_warning_is_told_once(tmp_path: Path, home: Path, store: LocalStore) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "file").write_bytes(b"x")
    (tmp_path / "t" / ".env").write_bytes(b"x")
    data, sources = Data(tmp_path / "t"), sources_of(home, store)
    sources.spec(data)
    sources.ready(data)
    assert len(sources.warnings(data)) == 1
    assert sources.warnings(data) == ()


def test_packs_are_bounded_however_small_files_are(tmp_path: Path, home: Path) -> None:
    tree = tmp_path / "t"
    for folder in range(4):
        (tree / f"{folder}").mkdir(parents=True)
        for number in range(2_500):
            (tree / f"{folder}" / f"{number}").write_bytes(b"%d" % number)
    packs = list(read_objects(scan(Data(tree), home).manifest.path))
    assert not any(isinstance(item, Part) for item in packs)
    assert all(len(pack.members) <= 65_536 for pack in packs if isinstance(pack, Pack))
    assert sum(len(pack.members) for pack in packs if isinstance(pack, Pack)) == 10_000


def test_a_run_that_sees_the_files_is_given_those_that_are_meant(
    tmp_path: Path, home: Path, store: LocalStore
) -> None:
    tree = tmp_path / "t"
    for name in ("a.csv", "raw/b.csv", "raw/deep/c.txt", "other/d.csv"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(name.encode())
    (tree / "raw" / "circle").symlink_to(tree)
    data = Data(tree, include=["raw/", "a.*"], exclude=["*.txt"])
    spec = sources_of(home, store, sees_files=True).ready(data)
    copy = brought(spec, tmp_path / "store", tmp_path / "scratch")
    assert contents(copy) == {
        "a.csv": f"-> {tree}/a.csv",
        "raw": "directory",
        "raw/b.csv": f"-> {tree}/raw/b.csv",
    }


def test_patterns_for_what_a_run_sees_have_to_match_something(
    tree: Path, home: Path, store: LocalStore
) -> None:
    with pytest.raises(PackagingError, match="no file in it matches"):
        sources_of(home, store, sees_files=True).spec(Data(tree, include=["*.parquet"]))
