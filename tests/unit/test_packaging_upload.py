"""Only what the store lacks is uploaded, whole or not at all."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kinetic_flows.code.snapshot import CodeSnapshot, take_snapshot
from kinetic_flows.code.upload import code_spec, upload_code
from kinetic_flows.platforms.local.store import LocalStore
from shipping import names_under, plain_root, restore, run_python, upload, write_project

SOURCES = 600


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """About six megabytes of sources, and two assets."""
    chance = random.Random(7)
    files: dict[str, str | bytes] = {
        f"pkg{index % 7}/m{index}.py": chance.randbytes(5_000).hex() for index in range(SOURCES)
    }
    files["assets/a.bin"] = chance.randbytes(3_000_000)
    files["assets/b.bin"] = chance.randbytes(3_000_000)
    return write_project(tmp_path / "project", files)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def snap(project: Path) -> CodeSnapshot:
    return take_snapshot(project, cache_home=None)


def changed_packs(before: CodeSnapshot, after: CodeSnapshot) -> int:
    return len(set(after.packs) - set(before.packs))


def test_an_unchanged_project_uploads_nothing(project: Path, store: LocalStore) -> None:
    first = upload(snap(project), store)
    second = upload(snap(project), store)
    assert first.bytes_uploaded > 6_000_000
    assert second.bytes_uploaded == 0


def test_packs_are_a_few_megabytes_and_large_files_are_alone(project: Path) -> None:
    snapshot = snap(project)
    sizes = [pack.size_bytes for pack in snapshot.packs]
    assert all(size < 3_100_000 for size in sizes)
    assert 4 < len(sizes) < 15
    alone = [members for members in snapshot.members() if "assets/" in members[0].path]
    assert [len(members) for members in alone if members[0].is_file] == [1, 1]


def test_one_edit_touches_one_pack(project: Path) -> None:
    before = snap(project)
    (project / "pkg3" / "m3.py").write_text("edited")
    assert changed_packs(before, snap(project)) == 1


def test_one_new_file_touches_one_pack(project: Path) -> None:
    before = snap(project)
    (project / "pkg3" / "new.py").write_text("new")
    assert changed_packs(before, snap(project)) == 1


def test_one_removed_file_touches_one_pack(project: Path) -> None:
    before = snap(project)
    (project / "pkg3" / "m3.py").unlink()
    assert changed_packs(before, snap(project)) == 1


def test_growing_file_by_file_splits_packs_one_at_a_time(project: Path) -> None:
    before = snap(project)
    for index in range(25):
        (project / "pkg3" / f"grown{index}.py").write_text("x" * 90_000)
        after = snap(project)
        assert changed_packs(before, after) <= 2
        before = after


def test_a_pack_is_named_by_its_uncompressed_content(project: Path, store: LocalStore) -> None:
    snapshot = snap(project)
    upload(snapshot, store)
    for pack in snapshot.packs:
        content = gzip.decompress(store.get(pack.name).data)
        assert pack.name == f"packs/{hashlib.sha256(content).hexdigest()}"
        assert len(content) == pack.size_bytes


def test_packs_name_no_person_and_no_time(project: Path, store: LocalStore) -> None:
    snapshot = snap(project)
    upload(snapshot, store)
    content = gzip.decompress(store.get(snapshot.packs[0].name).data)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = archive.getmembers()
    assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 0)}


def test_what_does_not_compress_is_stored_as_it_is(project: Path, store: LocalStore) -> None:
    write_project(project, {"assets/text.csv": "1,2,3\n" * 600_000})
    snapshot = snap(project)
    upload(snapshot, store)
    sizes = {
        members[0].path: len(store.get(pack.name).data) / pack.size_bytes
        for pack, members in zip(snapshot.packs, snapshot.members(), strict=True)
    }
    assert 0.99 < sizes["assets/a.bin"] < 1.01
    assert sizes["assets/text.csv"] < 0.1


def test_two_clients_at_once_upload_each_pack_once(project: Path, tmp_path: Path) -> None:
    stores = [LocalStore(tmp_path / "store") for _ in range(4)]
    snapshot = snap(project)
    with ThreadPoolExecutor(4) as pool:
        summaries = list(pool.map(lambda store: upload(snapshot, store), stores))
    alone = upload(snapshot, LocalStore(tmp_path / "another"))
    assert sum(item.bytes_uploaded for item in summaries) == alone.bytes_uploaded


def test_the_spec_says_where_the_code_ran(project: Path) -> None:
    root = dataclasses.replace(
        plain_root(project),
        sys_path=("scripts", "src", "tools"),
        late=("tools",),
        working_directory="assets",
        main_file=project / "scripts" / "train.py",
    )
    spec = code_spec(snap(project), root)
    assert spec.sys_path == ("scripts", "src")
    assert spec.late_sys_path == ("tools",)
    assert spec.working_directory == "assets"
    assert spec.entry_module_file == "scripts/train.py"


def test_a_script_outside_the_root_is_not_the_entry_file(project: Path, tmp_path: Path) -> None:
    root = dataclasses.replace(plain_root(project), main_file=tmp_path / "bin" / "pytest")
    assert code_spec(snap(project), root).entry_module_file is None


KILLED_AT_EVERY_WRITE = """
import os, pathlib, resource, signal, sys
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.code.snapshot import take_snapshot
from kinetic_flows.code.upload import upload_code

HOME = pathlib.Path(os.environ["KINETIC_HOME"])
STEPS = {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
project, stores = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
snapshot = take_snapshot(project, cache_home=None)


def client(store, arm):
    pid = os.fork()
    if pid == 0:
        arm()
        upload_code(snapshot, LocalStore(store), home=HOME)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_before_step(number):
    def arm():
        left = number

        def count(event, args):
            nonlocal left
            if event in STEPS:
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)

    return arm


def kill_when_a_file_reaches(size):
    def arm():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    return arm


step = 0
while client(stores / f"step-{step}", kill_before_step(step)) != 0:
    step += 1
print(step)
for size in range(0, 60_000, 1_777):
    client(stores / f"size-{size}", kill_when_a_file_reaches(size))
"""


def test_a_client_killed_at_any_write_leaves_no_partial_object(tmp_path: Path) -> None:
    chance = random.Random(3)
    files = {f"m{index}.py": chance.randbytes(10_000).hex() for index in range(5)}
    project = write_project(tmp_path / "project", files)
    stores = tmp_path / "stores"
    arguments = ["-W", "ignore", "-c", KILLED_AT_EVERY_WRITE, str(project), str(stores)]
    steps = run_python(arguments, cwd=tmp_path, env={"TMPDIR": str(tmp_path)})
    assert int(steps) > 10
    snapshot = snap(project)
    whole = 0
    for folder in stores.iterdir():
        store = LocalStore(folder)
        for item in store.list(""):
            whole += 1
            content = store.get(item.name).data
            if not item.name.endswith(".json"):
                content = gzip.decompress(content)
            digest = hashlib.sha256(content).hexdigest()
            assert item.name.removeprefix("packs/").removesuffix(".json") == digest
        upload(snapshot, store)
        spec = code_spec(snapshot, plain_root(project))
        workspace = restore(spec, folder, tmp_path / "restored" / folder.name)
        assert names_under(workspace) == names_under(project)
    home = tmp_path / "kinetic-home"
    upload_code(snapshot, LocalStore(stores / "last"), home=home)
    assert [path.name for path in (home / "scratch").iterdir()] == [".lock"]
    assert whole > 1
