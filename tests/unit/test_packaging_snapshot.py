"""What ships is exactly what is there, and what cannot ship is said."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from kinetic_flows.code.snapshot import SnapshotOptions, take_snapshot
from kinetic_flows.code.stat_cache import StatCache
from kinetic_flows.code.tree import FoundFile
from kinetic_flows.core.errors import PackageRootError, ProjectTooLargeError
from shipping import names_under, run_python, ship, ship_and_restore, write_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_modes_ship_but_never_setuid(project: Path, tmp_path: Path) -> None:
    modes = {"script": 0o755, "plain": 0o644, "private": 0o600, "setuid": 0o4755, "sticky": 0o1644}
    write_project(project, dict.fromkeys(modes, "x"))
    for name, bits in modes.items():
        (project / name).chmod(bits)
    restored = ship_and_restore(project, tmp_path)
    assert {name: mode(restored / name) for name in modes} == {
        name: bits & 0o777 for name, bits in modes.items()
    }


def test_empty_directories_ship_with_their_modes(project: Path, tmp_path: Path) -> None:
    (project / "out" / "logs").mkdir(parents=True)
    (project / "out" / "logs").chmod(0o700)
    restored = ship_and_restore(project, tmp_path)
    assert mode(restored / "out" / "logs") == 0o700


def test_a_read_only_directory_and_its_files_ship(project: Path, tmp_path: Path) -> None:
    write_project(project, {"fixed/data.csv": "1"})
    (project / "fixed" / "data.csv").chmod(0o444)
    (project / "fixed").chmod(0o555)
    restored = ship_and_restore(project, tmp_path)
    assert mode(restored / "fixed" / "data.csv") == 0o444
    assert mode(restored / "fixed") == 0o755


@pytest.mark.parametrize(
    "name",
    [
        b"with space.py",
        b"new\nline",
        b"tab\tand \x1b[31mescape",
        b"latin-\xe9",
        b"\xff\xfe",
        "naïve-日本語-🚀.txt".encode(),
        b"back\\slash",
        b"-leading-dash",
        b"x" * 255,
        b"a/" * 60 + b"deep",
    ],
)
def test_any_name_ships(project: Path, tmp_path: Path, name: bytes) -> None:
    write_project(project, {os.fsdecode(name): b"content"})
    restored = ship_and_restore(project, tmp_path)
    assert (restored / os.fsdecode(name)).read_bytes() == b"content"


def test_names_that_differ_in_case_only_stay_apart(project: Path, tmp_path: Path) -> None:
    write_project(project, {"Model.py": "upper", "model.py": "lower", "MODEL.py": "all"})
    restored = ship_and_restore(project, tmp_path)
    assert {path.name: path.read_text() for path in restored.iterdir()} == {
        "Model.py": "upper",
        "model.py": "lower",
        "MODEL.py": "all",
    }


def test_a_file_older_than_1980_ships(project: Path, tmp_path: Path) -> None:
    write_project(project, {"old": "x", "older": "y"})
    os.utime(project / "old", (0, 0))
    os.utime(project / "older", (-86400 * 365 * 20, -86400 * 365 * 20))
    assert names_under(ship_and_restore(project, tmp_path)) == {"old", "older"}


def test_links_inside_the_root_stay_links(project: Path, tmp_path: Path) -> None:
    write_project(project, {"pkg/data/v1/x.csv": "1", "a.py": ""})
    links = {
        "latest": "pkg/data/v1",
        "pkg/up": "../a.py",
        "pkg/chain": "up",
        "here": ".",
        "pkg/loop": "..",
    }
    for name, target in links.items():
        (project / name).symlink_to(target)
    restored = ship_and_restore(project, tmp_path)
    assert {name: str((restored / name).readlink()) for name in links} == links
    assert (restored / "latest" / "x.csv").read_text() == "1"


def test_an_absolute_link_into_the_root_leads_to_the_same_place_in_a_run(
    project: Path, tmp_path: Path
) -> None:
    write_project(project, {"data/x": "1"})
    (project / "sub").mkdir()
    (project / "sub" / "x").symlink_to(project / "data" / "x")
    (project / "around").symlink_to(Path("..") / project.name / "data")
    restored = ship_and_restore(project, tmp_path)
    assert (restored / "sub" / "x").resolve() == restored / "data" / "x"
    assert (restored / "around").resolve() == restored / "data"


def test_links_to_the_outside_are_followed(project: Path, tmp_path: Path) -> None:
    outside = write_project(tmp_path / "outside", {"shared/a.py": "a", "shared/b/c.py": "c"})
    (outside / "shared" / "a.py").chmod(0o755)
    (project / "one.py").symlink_to(outside / "shared" / "a.py")
    (project / "shared").symlink_to(outside / "shared")
    restored = ship_and_restore(project, tmp_path)
    assert names_under(restored) == {"one.py", "shared/a.py", "shared/b/c.py"}
    assert not (restored / "one.py").is_symlink()
    assert mode(restored / "one.py") == 0o755
    assert (restored / "shared" / "b" / "c.py").read_text() == "c"


def test_broken_links_stay_and_are_named(project: Path, tmp_path: Path) -> None:
    write_project(project, {"main.py": ""})
    (project / "gone").symlink_to("nothing")
    (project / "self").symlink_to("self")
    snapshot, _ = ship(project, tmp_path / "store")
    assert snapshot.files == 1
    assert "gone, self" in snapshot.warnings[0]


def test_links_to_what_does_not_ship_stay_and_are_named(project: Path, tmp_path: Path) -> None:
    write_project(project, {".kineticignore": "big/\n", "big/data": "1"})
    (project / "data").symlink_to("big/data")
    snapshot, _ = ship(project, tmp_path / "store")
    assert "lead to what does not ship: data" in snapshot.warnings[0]


def test_directory_cycles_end(project: Path, tmp_path: Path) -> None:
    outside = write_project(tmp_path / "outside", {"x.py": "", "back/y.py": ""})
    (outside / "back" / "to-outside").symlink_to(outside)
    (outside / "to-project").symlink_to(project)
    (outside / "to-parent").symlink_to(tmp_path)
    (project / "lib").symlink_to(outside)
    snapshot, _ = ship(project, tmp_path / "store")
    assert snapshot.files == 2
    assert "lead back to where they are" in snapshot.warnings[0]
    assert "lib/back/to-outside" in snapshot.warnings[0]
    assert "lib/to-parent" in snapshot.warnings[0]


def test_sockets_pipes_and_devices_stay_and_are_named(project: Path, tmp_path: Path) -> None:
    write_project(project, {"main.py": ""})
    os.mkfifo(project / "pipe")
    (project / "null").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(project / "sock"))
        snapshot, _ = ship(project, tmp_path / "store")
    assert snapshot.files == 1
    assert "null, pipe, sock" in snapshot.warnings[0]


def test_what_may_not_be_read_stays_and_is_named(project: Path, tmp_path: Path) -> None:
    write_project(project, {"main.py": "", "locked/inside": "", "secretive": ""})
    (project / "secretive").chmod(0)
    (project / "locked").chmod(0)
    tmp_path.chmod(0o755)
    code = f"""
        import humanize, os, pathlib, sys
        from kinetic_flows.code.snapshot import take_snapshot
        if os.getuid() == 0:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
        os.chdir({str(project)!r})
        snapshot = take_snapshot(pathlib.Path("."), cache_home=None)
        print(snapshot.files, *snapshot.warnings)
    """
    for folder in [*project.parents][:-2]:
        folder.chmod(folder.stat().st_mode | 0o055)
    printed = run_python(["-c", textwrap.dedent(code)], cwd=tmp_path)
    (project / "locked").chmod(0o755)
    assert printed.startswith("1 ")
    assert "locked, secretive" in printed


def test_a_root_given_through_a_link_ships_what_it_leads_to(project: Path, tmp_path: Path) -> None:
    write_project(project, {"main.py": "x"})
    (project / "inner").symlink_to("main.py")
    link = tmp_path / "link"
    link.symlink_to(project)
    through, _ = ship(link, tmp_path / "store")
    direct, _ = ship(project, tmp_path / "store")
    assert through.manifest == direct.manifest
    assert through.packs == direct.packs


def test_the_kinetic_home_never_ships(project: Path) -> None:
    write_project(project, {"main.py": "", "state/store/packs/x": "", "state/cache/y": ""})
    options = SnapshotOptions(default_excludes=False)
    snapshot = take_snapshot(project, cache_home=project / "state", options=options)
    assert snapshot.files == 1


def test_the_same_files_make_the_same_snapshot_anywhere(project: Path, tmp_path: Path) -> None:
    files = {f"pkg/m{index}.py": "x" * index for index in range(50)}
    write_project(project, files)
    other = write_project(tmp_path / "elsewhere", dict(reversed(files.items())))
    first, second = (take_snapshot(root, cache_home=None) for root in (project, other))
    assert (first.manifest, first.packs) == (second.manifest, second.packs)


MEDDLE = """
import os, pathlib, sys
from kinetic_flows.core.errors import KineticError
from kinetic_flows.code.snapshot import take_snapshot

left, busy = int(os.environ["TIMES"]), False

def meddle(event, args):
    global left, busy
    if event == "open" and str(args[0]).endswith("train.log") and left and not busy:
        left, busy = left - 1, True
        exec(os.environ["ACTION"])
        busy = False

sys.addaudithook(meddle)
try:
    print(take_snapshot(pathlib.Path("."), cache_home=None).size_bytes)
except KineticError as error:
    print(type(error).__name__, error)
"""

APPEND = "open('train.log', 'a').write('more')"
REWRITE = "pathlib.Path('train.log').write_text('same size as before')"
REMOVE = "os.remove('train.log')"
DIRECTORY = "os.remove('train.log'); os.mkdir('train.log')"
PIPE = "os.remove('train.log'); os.mkfifo('train.log')"


@pytest.mark.parametrize(
    ("action", "times", "size"),
    [(APPEND, 2, 19 + 2 * 4), (REWRITE, 2, 19), (REMOVE, 1, 0), (DIRECTORY, 1, 0), (PIPE, 1, 0)],
)
def test_a_file_that_changes_while_it_is_read_is_read_again(
    project: Path, action: str, times: int, size: int
) -> None:
    write_project(project, {"train.log": "nineteen bytes long"})
    env = {"TIMES": str(times), "ACTION": action}
    assert run_python(["-W", "ignore", "-c", MEDDLE], cwd=project, env=env) == f"{size}\n"


def test_a_file_that_changes_whenever_it_is_opened_ships_as_it_was_once(project: Path) -> None:
    write_project(project, {"train.log": "nineteen bytes long"})
    env = {"TIMES": "1000000", "ACTION": APPEND}
    printed = run_python(["-W", "ignore", "-c", MEDDLE], cwd=project, env=env)
    assert (int(printed) - 19) % 4 == 0


def test_too_much_code_is_refused_with_the_largest_files_and_the_remedy(project: Path) -> None:
    write_project(project, {"small.py": "x", "data/big.bin": b"x" * 3_000_000})
    options = SnapshotOptions(max_size_bytes=2_000_000)
    with pytest.raises(ProjectTooLargeError) as caught:
        take_snapshot(project, cache_home=None, options=options)
    assert "data/big.bin (3.0 MB)" in str(caught.value)
    assert "KINETIC_MAX_CODE_SIZE_MB" in str(caught.value)
    assert ".kineticignore" in str(caught.value)


def test_much_code_is_warned_about(project: Path) -> None:
    write_project(project, {"data/big.bin": b"x" * 3_000_000})
    options = SnapshotOptions(warn_size_bytes=2_000_000)
    (warning,) = take_snapshot(project, cache_home=None, options=options).warnings
    assert "data/big.bin (3.0 MB)" in warning


def test_too_many_files_are_refused_naming_where_they_are(project: Path) -> None:
    write_project(project, {f"cache/{index}": "" for index in range(20)})
    options = SnapshotOptions(max_files=10)
    with pytest.raises(ProjectTooLargeError, match="more than 10") as caught:
        take_snapshot(project, cache_home=None, options=options)
    assert "most are in cache" in str(caught.value)


def test_a_root_that_is_gone_is_an_error_that_says_so(project: Path) -> None:
    with pytest.raises(PackageRootError, match="nowhere is not a directory"):
        take_snapshot(project / "nowhere", cache_home=None)


def test_an_empty_project_ships(project: Path, tmp_path: Path) -> None:
    snapshot, spec = ship(project, tmp_path / "store")
    assert (snapshot.files, snapshot.size_bytes, spec.packs) == (0, 0, ())


class TestStatCache:
    """An unchanged file is not read again; a changed one always is."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        return tmp_path / "home"

    def digest(self, project: Path, home: Path | None) -> bytes:
        return take_snapshot(project, cache_home=home).manifest

    def agree(self, project: Path, home: Path) -> bool:
        return self.digest(project, home) == self.digest(project, None)

    def test_an_edit_within_one_tick_is_seen(self, project: Path, home: Path) -> None:
        path = project / "m.py"
        for turn in range(100_000, 100_040):
            path.write_text(f"{turn}")
            assert self.agree(project, home)

    def test_an_edit_that_keeps_size_and_mtime_is_seen(self, project: Path, home: Path) -> None:
        path = project / "m.py"
        path.write_text("aaaa")
        os.utime(path, ns=(0, 10**18))
        assert self.agree(project, home)
        path.write_text("bbbb")
        os.utime(path, ns=(0, 10**18))
        assert self.agree(project, home)

    def test_a_file_replaced_by_one_of_equal_size_and_times_is_seen(
        self, project: Path, home: Path
    ) -> None:
        for name in ("one", "two"):
            (project / name).write_text(name)
            os.utime(project / name, ns=(0, 10**18))
        assert self.agree(project, home)
        (project / "two").rename(project / "one")
        assert self.agree(project, home)

    def test_a_file_from_the_future_is_not_trusted(self, project: Path, home: Path) -> None:
        path = project / "m.py"
        path.write_text("aaaa")
        os.utime(path, ns=(4 * 10**18, 4 * 10**18))
        assert self.agree(project, home)
        cached = next(home.rglob("*.json"), None)
        assert cached is None or '"m.py"' not in cached.read_text()

    @pytest.mark.parametrize(
        ("changed_ns", "read_ns", "remembered"),
        [
            (10**18 + 7, 10**18 + 8, False),  # read in the tick of the change
            (10**18 + 7, 10**18 - 10**12, False),  # the clock was set back before the read
            (10**18 + 7, 10**18 + 10**9, True),
            (10**18, 10**18 + 10**9, False),  # whole seconds: a file system with long ticks
            (10**18, 10**18 + 3 * 10**9, True),
        ],
    )
    def test_only_what_cannot_change_unseen_is_remembered(
        self, tmp_path: Path, changed_ns: int, read_ns: int, remembered: bool
    ) -> None:
        file = FoundFile("m.py", 0o644, 4, changed_ns, changed_ns, 1)
        cache = StatCache(tmp_path / "cache.json")
        cache.remember(file, "digest", read_ns)
        cache.save()
        known = StatCache(tmp_path / "cache.json").digest(file)
        assert known == ("digest" if remembered else None)

    def test_a_mode_that_changes_is_seen(self, project: Path, home: Path) -> None:
        write_project(project, {"run.sh": "x"})
        assert self.agree(project, home)
        (project / "run.sh").chmod(0o755)
        assert self.agree(project, home)

    def test_an_unchanged_project_is_not_read(self, project: Path, home: Path) -> None:
        files = {f"m{index}.py": "x" for index in range(20)}
        write_project(project, {**files, "large.bin": b"x" * 5_000_000})
        opened = run_python(["-c", COUNT_OPENED], cwd=project, env={"HERE": str(home)})
        first, second = opened.split()
        assert int(first) == 21
        assert int(second) == 0

    @pytest.mark.parametrize(
        "damage", [b"", b"{", b"[]", b'{"version": 1, "files": {"m.py": 3}, "packs": {}}', None]
    )
    def test_a_damaged_or_deleted_cache_is_no_loss(
        self, project: Path, home: Path, damage: bytes | None
    ) -> None:
        write_project(project, {"m.py": "x"})
        os.utime(project / "m.py", (0, 0))
        assert self.agree(project, home)
        (cache,) = home.rglob("*.json")
        if damage is None:
            cache.unlink()
        else:
            cache.write_bytes(damage)
        assert self.agree(project, home)

    def test_a_home_that_cannot_be_written_is_no_error(self, project: Path, tmp_path: Path) -> None:
        blocked = tmp_path / "blocked"
        blocked.write_text("a file where a directory should be")
        write_project(project, {"m.py": "x"})
        assert self.agree(project, blocked)

    def test_concurrent_clients_agree(self, project: Path, home: Path) -> None:
        write_project(project, {f"m{index}.py": f"{index}" for index in range(50)})
        code = TAKE_SNAPSHOTS.format(project=str(project), home=str(home))
        clients = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        digests = {client.communicate(timeout=60)[0] for client in clients}
        assert len(digests) == 1
        assert all(client.returncode == 0 for client in clients)

    def test_a_secret_that_appears_in_a_known_file_is_seen(self, project: Path, home: Path) -> None:
        path = project / "settings.json"
        path.write_text("{}")
        os.utime(path, (0, 0))
        assert take_snapshot(project, cache_home=home).files == 1
        path.write_text(SERVICE_ACCOUNT)
        assert take_snapshot(project, cache_home=home).files == 0

    def test_a_secret_stays_once_the_rule_that_let_it_ship_is_gone(
        self, project: Path, home: Path
    ) -> None:
        files = {".kineticignore": "!sa.json", "sa.json": SERVICE_ACCOUNT}
        write_project(project, files)
        for name in files:
            os.utime(project / name, (1, 1))
        time.sleep(0.2)  # until the change of times has left the clock's tick
        assert take_snapshot(project, cache_home=home).files == 2
        (project / ".kineticignore").unlink()
        snapshot = take_snapshot(project, cache_home=home)
        assert snapshot.files == 0
        assert "sa.json" in snapshot.warnings[0]


SERVICE_ACCOUNT = '{"type": "service_account", "private_key": "x"}'

COUNT_OPENED = """
import os, pathlib, sys, time
from kinetic_flows.code.snapshot import take_snapshot
time.sleep(0.2)  # until the files have left the clock's tick
here, opened = os.getcwd(), []
sys.addaudithook(
    lambda event, args: opened.append(args[0])
    if event == "open" and str(args[0]).startswith(here) and "kineticignore" not in str(args[0])
    else None
)
for _ in range(2):
    opened.clear()
    take_snapshot(pathlib.Path(here), cache_home=pathlib.Path(os.environ["HERE"]))
    print(len(opened))
"""

TAKE_SNAPSHOTS = """
import hashlib, pathlib
from kinetic_flows.code.snapshot import take_snapshot
found = {{
    take_snapshot(pathlib.Path({project!r}), cache_home=pathlib.Path({home!r})).manifest
    for _ in range(20)
}}
print(*[hashlib.sha256(item).hexdigest() for item in found])
"""
