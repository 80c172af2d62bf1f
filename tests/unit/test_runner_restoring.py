"""Restoring code: exact for what the client ships, and safe for what anybody else might."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.core.job import (
    EXIT_CODE_NOT_RESTORED,
    EXIT_OBJECT_REFUSED,
    canonical_json,
    sha256_hex,
)
from runner_jobs import Job, Member, archive, put_pack, ship

LISTS = Member.file(
    "app.py",
    """
import os
def main():
    found = {}
    for folder, folders, files in os.walk("."):
        for name in folders + files:
            path = os.path.normpath(os.path.join(folder, name))
            status = os.lstat(path)
            content = None
            if os.path.islink(path):
                content = "-> " + os.readlink(path)
            elif os.path.isfile(path):
                content = open(path, "rb").read()
            found[path] = (oct(status.st_mode & 0o7777), content)
    return found
""",
)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "store")


def _refusal(job: Job, *packs: list[Member]) -> str:
    """Run a job with hostile packs; nothing may be written outside, and the runner says why."""
    job.code = ship(job, *packs)
    return _refused(job)


def _refused(job: Job) -> str:
    before = sorted(path for path in job.root.parent.iterdir())
    ended = job.run()
    assert ended.exit_code == EXIT_CODE_NOT_RESTORED, ended.output
    assert sorted(path for path in job.root.parent.iterdir()) == before
    message = job.envelope().header.message
    assert message.startswith("the code cannot be restored: ")
    return message


def test_names_bytes_modes_links_and_empty_directories_come_back(job: Job) -> None:
    job.code = ship(
        job,
        [LISTS, Member.file("pkg/a b\n.txt", b"\0\xff", 0o755), Member.directory("empty", 0o700)],
        [
            Member.file("pkg/\udcff\udcfe.bin", b"raw name", 0o600),
            Member.link("latest", "pkg/deep/../a b\n.txt"),
            Member.link("pkg/deep/up", "../../empty"),
            Member.file("pkg/deep/x", b""),
            Member.directory("read-only", 0o555),
            Member.file("read-only/y", b"1", 0o444),
        ],
    )
    assert job.run().exit_code == 0
    found = job.value()
    found.pop("app.py")
    found.pop("__pycache__", None)
    assert {path: value for path, value in found.items() if "pyc" not in path} == {
        "pkg": ("0o755", None),
        "pkg/deep": ("0o755", None),
        "pkg/a b\n.txt": ("0o755", b"\0\xff"),
        "pkg/\udcff\udcfe.bin": ("0o600", b"raw name"),
        "empty": ("0o700", None),
        "latest": ("0o777", "-> pkg/deep/../a b\n.txt"),
        "pkg/deep/up": ("0o777", "-> ../../empty"),
        "pkg/deep/x": ("0o644", b""),
        "read-only": ("0o555", None),
        "read-only/y": ("0o444", b"1"),
    }


def test_a_large_file_is_restored_without_being_held_in_memory(job: Job) -> None:
    content = os.urandom(1 << 20) * 40
    source = (
        "import hashlib\ndef main():\n return hashlib.sha256(open('big','rb').read()).hexdigest()"
    )
    job.code = ship(job, [Member.file("app.py", source)], [Member.file("big", content)])
    assert job.run().exit_code == 0
    assert job.value() == sha256_hex(content)


def test_hundreds_of_packs_are_restored(job: Job) -> None:
    source = "import os\ndef main():\n return len(os.listdir('files'))"
    packs = [[Member.file(f"files/{number}", str(number))] for number in range(300)]
    job.code = ship(job, [Member.file("app.py", source)], *packs)
    assert job.run().exit_code == 0
    assert job.value() == 300


@pytest.mark.parametrize(
    "path", ["/tmp/kinetic-evil", "../evil", "a/../../evil", "a/..", "./a", "a//b", "", "a\0b"]
)
def test_a_path_that_leaves_the_workspace_is_refused(job: Job, path: str) -> None:
    evil = Member.file("placeholder", b"evil")
    evil = replace(evil, entry={**(evil.entry or {}), "path": path}).with_info(name=path)
    assert "leaves the workspace or is malformed" in _refusal(job, [evil])


@pytest.mark.parametrize("path", ["/tmp/kinetic-evil", "../evil", "a/../../evil"])
def test_a_member_that_the_manifest_does_not_name_is_refused(job: Job, path: str) -> None:
    evil = Member.file(path, b"evil").only_packed()
    assert f"{path!r}, which is not what the manifest says" in _refusal(job, [evil])


@pytest.mark.parametrize("target", ["/etc", "..", "../evil", "a/../../evil", "a\0b", ""])
def test_a_link_that_leads_out_of_the_workspace_is_refused(job: Job, target: str) -> None:
    link = Member.link("link", "placeholder")
    link = replace(link, entry={"path": "link", "link": target}).with_info(linkname=target)
    assert "the link 'link' leads out of the workspace" in _refusal(job, [link])


def test_a_link_that_leads_out_through_another_link_is_refused(job: Job) -> None:
    links = [Member.link("a/b/top", "../.."), Member.link("out", "a/b/top/..")]
    assert "the link 'out' leads out of the workspace" in _refusal(job, links)


def test_nothing_is_written_through_a_link(job: Job) -> None:
    (job.root.parent / "outside").mkdir()
    members = [
        Member.link("door", "somewhere").with_info(linkname=str(job.root.parent / "outside")),
        Member.file("door/evil", b"evil"),
    ]
    _refusal(job, members)
    assert list((job.root.parent / "outside").iterdir()) == []


def test_a_file_in_the_place_of_a_link_is_refused(job: Job) -> None:
    link = Member.link("door", "app.py")
    file = Member.file("door", b"evil").only_packed()
    assert "'door', which is not what the manifest says" in _refusal(job, [link, file])


@pytest.mark.parametrize(
    "kind",
    [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_hard_links_and_devices_are_refused(job: Job, kind: bytes) -> None:
    evil = Member.file("evil", b"").with_info(type=kind, linkname="app.py", devmajor=1, devminor=3)
    assert "'evil', which is not what the manifest says" in _refusal(job, [LISTS, evil])


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o1777, -1, "755"])
def test_a_mode_beyond_permissions_is_refused(job: Job, mode: Any) -> None:
    evil = Member.file("evil", b"")
    evil = replace(evil, entry={**(evil.entry or {}), "mode": mode})
    assert "which is more than permissions" in _refusal(job, [evil])


def test_the_archives_own_modes_do_not_count(job: Job) -> None:
    job.code = ship(job, [LISTS, Member.file("tool", b"", 0o755).with_info(mode=0o4777)])
    assert job.run().exit_code == 0
    assert job.value()["tool"] == ("0o755", b"")


def test_a_member_of_another_size_than_the_manifest_says_is_refused(job: Job) -> None:
    evil = Member.file("evil", b"x" * 1000)
    evil = replace(evil, entry={**(evil.entry or {}), "size": 1})
    assert "'evil', which is not what the manifest says" in _refusal(job, [evil])


def test_a_member_that_comes_twice_is_refused(job: Job) -> None:
    twice = Member.file("evil", b"x")
    assert "'evil' is in the packs twice" in _refusal(job, [twice, twice.only_packed()])


def test_a_file_that_no_pack_holds_is_missed(job: Job) -> None:
    job.code = ship(job, [LISTS, Member.file("lost.py", b"")])
    job.code = replace(job.code, packs=ship(job, [LISTS]).packs)
    assert "no pack holds 'lost.py'" in _refused(job)


def test_a_file_that_is_also_a_directory_is_refused(job: Job) -> None:
    _refusal(job, [Member.file("a", b""), Member.file("a/b", b"")])


def test_a_pack_that_expands_beyond_its_size_is_refused_without_being_expanded(job: Job) -> None:
    job.code = ship(job, [LISTS])
    (pack,) = job.code.packs
    bomb = gzip.compress(bytes(400_000_000), 1)
    job.put(pack.name, bomb)
    job.put(job.code.manifest.name, (job.root / job.code.manifest.name).read_bytes())
    ended = job.run()
    assert ended.exit_code == EXIT_OBJECT_REFUSED
    assert "its size is not" in ended.output
    assert ended.seconds < 10


@pytest.mark.parametrize("data", [b"", b"no gzip", gzip.compress(b"cut off", mtime=0)[:-9]])
def test_a_pack_that_cannot_be_uncompressed_is_refused(job: Job, data: bytes) -> None:
    job.code = ship(job, [LISTS])
    job.put(job.code.packs[0].name, data)
    assert job.run().exit_code == EXIT_OBJECT_REFUSED


@pytest.mark.parametrize("content", [b"x" * 1024, archive([LISTS])[:700]])
def test_a_pack_that_is_no_archive_is_refused(job: Job, content: bytes) -> None:
    job.code = replace(ship(job, [LISTS]), packs=(put_pack(job, content),))
    _refused(job)


def test_a_sparse_member_is_refused(job: Job) -> None:
    info = tarfile.TarInfo("evil")
    info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": "10", "GNU.sparse.name": "evil"}
    info.size = 1
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as target:
        target.addfile(info, io.BytesIO(b"x"))
    manifest = canonical_json(
        {"version": 1, "files": [{"path": "evil", "mode": 420, "size": 10, "sha256": "0" * 64}]}
    )
    job.code = replace(
        ship(job, [LISTS]),
        packs=(put_pack(job, buffer.getvalue()),),
        manifest=job.put("packs/m.json", manifest),
    )
    assert "'evil', which is not what the manifest says" in _refused(job)


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (b"not json", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"files": [], "version": 2}', "version is 2"),
        (
            b'{"files": [{"path": "a", "link": "b"}, {"path": "a", "dir": true}], "version": 1}',
            "names a path twice",
        ),
        (b'{"files": [{"mode": 1}], "version": 1}', "cannot be read"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(job: Job, manifest: bytes, words: str) -> None:
    job.code = replace(ship(job, [LISTS]), manifest=job.put("packs/m.json", manifest))
    assert words in _refused(job)


def test_a_manifest_of_too_many_files_is_refused(job: Job) -> None:
    from kinetic_flows.runner_image.runner.contract import Fault
    from kinetic_flows.runner_image.runner.restoring import MAX_ENTRIES, read_manifest

    # One short entry as often as it takes: they are counted before they are read.
    files = b",".join([b'{"path": ""}'] * (MAX_ENTRIES + 1))
    with pytest.raises(Fault, match=f"more than {MAX_ENTRIES}"):
        read_manifest(b'{"version": 1, "files": [%b]}' % files)
