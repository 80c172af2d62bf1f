"""A wheel's layer has what an installer makes of the wheel, where an image of Python looks."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import marshal
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.layers.bytecode import Compiler
from kinetic_flows.images.layers.make import (
    make_bytecode_layer,
    make_files_layer,
    make_merged_layer,
    make_wheel_layer,
)
from kinetic_flows.images.layers.model import MadeLayer, WheelFacts
from odd_wheels import PROGRAM, OddWheel, record_line

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
CACHE_TAG = sys.implementation.cache_tag
SITE = "usr/local/lib/python3/site-packages"


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    with Compiler(PYTHON, os.environ, processes=2) as made:
        yield made


def layer_of(
    wheel: OddWheel, tmp_path: Path, compiler: Compiler, python: str | None = None
) -> MadeLayer:
    file, path = wheel.write(tmp_path)
    return make_wheel_layer(
        path, tmp_path / "layer.tar.gz", file=file, python=python, compiler=compiler
    )


def members(layer: MadeLayer) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(layer.path) as archive:
        return {member.name: member for member in archive}


def contents(layer: MadeLayer) -> dict[str, bytes]:
    found = {}
    with tarfile.open(layer.path) as archive:
        for member in archive:
            if member.isfile():
                content = archive.extractfile(member)
                assert content is not None
                found[member.name] = content.read()
    return found


def facts(layer: MadeLayer) -> WheelFacts:
    (only,) = layer.facts
    return only


def test_files_lie_where_every_minor_version_finds_them(tmp_path: Path, compiler: Compiler) -> None:
    wheel = OddWheel(
        files={
            "thing/__init__.py": "",
            "thing/data.bin": b"\0\1",
            "DATA/purelib/pure.py": "1",
            "DATA/platlib/plat.py": "2",
            "DATA/data/share/thing/x.txt": "x",
            "DATA/headers/thing.h": "h",
            "zzz-thing.pth": "./elsewhere\n",
        }
    )
    found = contents(layer_of(wheel, tmp_path, compiler, PYTHON))
    assert {
        f"{SITE}/thing/__init__.py": b"",
        f"{SITE}/thing/data.bin": b"\0\1",
        f"{SITE}/pure.py": b"1",
        f"{SITE}/plat.py": b"2",
        "usr/local/share/thing/x.txt": b"x",
        f"usr/local/include/python{PYTHON}/thing/thing.h": b"h",
        f"{SITE}/zzz-thing.pth": b"./elsewhere\n",
        f"{SITE}/thing-1.0.dist-info/INSTALLER": b"kinetic\n",
    }.items() <= found.items()
    assert f"{SITE}/thing-1.0.dist-info/METADATA" in found


def test_only_programs_are_executable_and_all_belongs_to_root(
    tmp_path: Path, compiler: Compiler
) -> None:
    wheel = OddWheel(
        files={"thing/tool": "#!/bin/sh\n", "thing/text": "", "DATA/scripts/run": "#!/bin/sh\n"},
        modes={"thing/tool": PROGRAM, "thing/text": 0o106644},
        change=lambda entry: setattr(entry, "date_time", (2020, 1, 2, 3, 4, 6)),
    )
    found = members(layer_of(wheel, tmp_path, compiler))
    assert found[f"{SITE}/thing/tool"].mode == 0o755
    assert found[f"{SITE}/thing/text"].mode == 0o644
    assert found["usr/local/bin/run"].mode == 0o755
    assert {member.mode for member in found.values() if member.isdir()} == {0o755}
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}
    assert {member.mtime for member in found.values()} == {315_532_800}


def test_every_directory_is_there_before_what_is_in_it(tmp_path: Path, compiler: Compiler) -> None:
    wheel = OddWheel(files={"a/b/c.py": "1", "a/d.py": "2", "DATA/data/etc/thing/x": ""})
    seen: set[str] = set()
    for name, member in members(layer_of(wheel, tmp_path, compiler, PYTHON)).items():
        parent = name.rpartition("/")[0]
        assert not parent or parent in seen
        if member.isdir():
            seen.add(name)
    assert {"usr", "usr/local", SITE, f"{SITE}/a/b", f"{SITE}/a/__pycache__"} <= seen


def test_console_scripts_start_the_function_with_the_images_python(
    tmp_path: Path, compiler: Compiler
) -> None:
    entry_points = """\
# what people type
[console_scripts]
thing = thing.cli:main
thing-extra = thing.cli:Tool.run [extra,other]
Odd.Name = thing : main

[gui_scripts]
thing-window = thing.cli:main
[thing.plugins]
x = %(nothing)s
"""
    wheel = OddWheel(files={"INFO/entry_points.txt": entry_points})
    layer = layer_of(wheel, tmp_path, compiler)
    found = contents(layer)
    scripts = {name for name in found if name.startswith("usr/local/bin/")}
    names = ("thing", "thing-extra", "Odd.Name", "thing-window")
    assert scripts == {f"usr/local/bin/{name}" for name in names}
    assert all(found[name].startswith(b"#!/usr/local/bin/python3\n") for name in scripts)
    assert all(members(layer)[name].mode == 0o755 for name in scripts)
    assert b"from thing.cli import Tool\n" in found["usr/local/bin/thing-extra"]
    assert b"sys.exit(Tool.run())" in found["usr/local/bin/thing-extra"]


def test_a_console_script_runs(tmp_path: Path, compiler: Compiler) -> None:
    wheel = OddWheel(
        files={
            "thing.py": "import sys\nclass Tool:\n    def run():\n        return len(sys.argv)\n",
            "INFO/entry_points.txt": "[console_scripts]\nthing = thing:Tool.run\n",
        }
    )
    root = unpacked(layer_of(wheel, tmp_path, compiler, PYTHON), tmp_path)
    done = subprocess.run(
        [sys.executable, root / "usr/local/bin/thing", "one", "two"],
        env={"PYTHONPATH": str(root / SITE)},
        check=False,
    )
    assert done.returncode == 3


def unpacked(layer: MadeLayer, tmp_path: Path) -> Path:
    root = tmp_path / "root"
    with tarfile.open(layer.path) as archive:
        archive.extractall(root, filter="fully_trusted")
    return root


@pytest.mark.parametrize(
    ("written", "installed"),
    [
        ("#!python\nprint()\n", "#!/usr/local/bin/python3\nprint()\n"),
        ("#!pythonw\nprint()\n", "#!/usr/local/bin/python3\nprint()\n"),
        ("#!python3 -u\nprint()\n", "#!/usr/local/bin/python3\nprint()\n"),
        ("#!python\r\nprint()\r\n", "#!/usr/local/bin/python3\nprint()\r\n"),
        ("#!python", "#!/usr/local/bin/python3\n"),
        ("#!/usr/bin/env python\n", "#!/usr/bin/env python\n"),
        ("#!/bin/sh\n#!python\n", "#!/bin/sh\n#!python\n"),
        ("", ""),
    ],
)
def test_a_script_for_python_gets_the_images(
    written: str, installed: str, tmp_path: Path, compiler: Compiler
) -> None:
    layer = layer_of(OddWheel(files={"DATA/scripts/run": written}), tmp_path, compiler)
    assert contents(layer)["usr/local/bin/run"].decode() == installed
    assert members(layer)["usr/local/bin/run"].mode == 0o755


def test_a_console_script_takes_the_place_of_a_wrapper_from_the_build(
    tmp_path: Path, compiler: Compiler
) -> None:
    wheel = OddWheel(
        files={
            "DATA/scripts/run": "#!python\nold\n",
            "DATA/scripts/run.exe": "old",
            "DATA/scripts/run-script.py": "#!python\nold\n",
            "DATA/scripts/other": "#!python\nkept\n",
            "INFO/entry_points.txt": "[console_scripts]\nrun = thing:run\n",
        }
    )
    found = contents(layer_of(wheel, tmp_path, compiler))
    scripts = {name for name in found if name.startswith("usr/local/bin/")}
    assert scripts == {"usr/local/bin/run", "usr/local/bin/other"}
    assert b"from thing import run" in found["usr/local/bin/run"]


def test_data_for_the_packages_of_this_python_goes_where_they_are(
    tmp_path: Path, compiler: Compiler
) -> None:
    place = f"DATA/data/lib/python{PYTHON}/site-packages/more.py"
    wheel = OddWheel(files={place: "1", "DATA/data/lib/python3.1/site-packages/old.py": "2"})
    found = contents(layer_of(wheel, tmp_path, compiler, PYTHON))
    assert found[f"{SITE}/more.py"] == b"1"
    assert found["usr/local/lib/python3.1/site-packages/old.py"] == b"2"


def test_what_installers_leave_out_of_a_wheel_is_left_out(
    tmp_path: Path, compiler: Compiler
) -> None:
    wheel = OddWheel(
        files={
            "thing/__pycache__/x.cpython-311.pyc": "old",
            "thing/x.py": "1",
            "thing/empty/": "",
            "INFO/INSTALLER": "me",
            "INFO/REQUESTED": "",
            "INFO/direct_url.json": "{}",
        }
    )
    found = contents(layer_of(wheel, tmp_path, compiler))
    assert not [name for name in found if "__pycache__" in name]
    assert found[f"{SITE}/thing-1.0.dist-info/INSTALLER"] == b"kinetic\n"
    assert not {
        f"{SITE}/thing-1.0.dist-info/{name}" for name in ("REQUESTED", "direct_url.json")
    } & set(found)


def test_record_lists_what_was_installed(tmp_path: Path, compiler: Compiler) -> None:
    wheel = OddWheel(
        files={
            "thing/a, b.py": "1",
            "thing/ü.py": "2",
            "DATA/scripts/run": "#!python\n",
            "DATA/data/share/x": "x",
        }
    )
    found = contents(layer_of(wheel, tmp_path, compiler))
    record = found[f"{SITE}/thing-1.0.dist-info/RECORD"].decode()
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(record, newline=""))}
    assert rows.pop("thing-1.0.dist-info/RECORD") == ["", ""]
    listed = {os.path.normpath(f"{SITE}/{name}") for name in rows}
    assert listed == {name for name in found if not name.endswith("/RECORD")}
    for name, (digest, size) in rows.items():
        data = found[os.path.normpath(f"{SITE}/{name}")]
        assert record_line(name, data).endswith(f",{digest},{size}\n")


def test_names_of_any_length_and_script_survive(tmp_path: Path, compiler: Compiler) -> None:
    long = "/".join(["a" * 60] * 6)
    names = (f"{long}.txt", "x" * 250, f"{'y' * 90}/{'z' * 90}", "thing/日本語.txt", "thing/é.txt")
    wheel = OddWheel(files={name: name for name in names})
    found = contents(layer_of(wheel, tmp_path, compiler))
    assert {found[f"{SITE}/{name}"].decode() for name in names} == set(names)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_content_is_the_same_however_the_wheel_is_compressed(
    compression: int, tmp_path: Path, compiler: Compiler
) -> None:
    large = bytes(range(256)) * 30_000
    wheel = OddWheel(
        files={"thing/large": large, "thing/none": b"", "thing/small": b"x"},
        compression=compression,
    )
    layer = layer_of(wheel, tmp_path, compiler)
    found = contents(layer)
    assert found[f"{SITE}/thing/large"] == large
    assert found[f"{SITE}/thing/none"] == b""
    assert facts(layer).files[f"{SITE}/thing/large"] == hashlib.sha256(large).hexdigest()[:16]


def test_digests_are_those_of_the_bytes(tmp_path: Path, compiler: Compiler) -> None:
    wheel = OddWheel(files={"thing/x.py": "x = 1\n" * 1000, "thing/y": b"y"})
    layer = layer_of(wheel, tmp_path, compiler, PYTHON)
    data = layer.path.read_bytes()
    assert layer.blob.digest == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert layer.blob.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}"
    assert layer.blob.size_bytes == len(data)


def test_facts_say_what_the_wheel_says(tmp_path: Path, compiler: Compiler) -> None:
    metadata = """\
Metadata-Version: 2.1
Name: Some.Thing
Version: 1.0
Requires-Dist: numpy>=1
Requires-Dist: jax ; extra == "x"
Requires-Python: >=3.9
Provides-Extra: x

Requires-Dist: not-this
"""
    wheel = OddWheel(
        name="Some.Thing",
        metadata=metadata,
        files={"s.py": "12345", "DATA/scripts/r": "#!python\n"},
    )
    layer = layer_of(wheel, tmp_path, compiler, PYTHON)
    found = facts(layer)
    assert (found.name, found.version) == ("some-thing", "1.0")
    assert found.requires == ("numpy>=1", 'jax ; extra == "x"')
    assert found.requires_python == ">=3.9"
    assert found.source_bytes == 5
    there = {name for name in contents(layer) if not name.endswith((".pyc", "/RECORD"))}
    assert set(found.files) == there


def test_bytecode_is_used_without_looking_at_the_source(tmp_path: Path, compiler: Compiler) -> None:
    wheel = OddWheel(files={"thing/__init__.py": "VALUE = 41\n", "thing/more.py": "import sys\n"})
    layer = layer_of(wheel, tmp_path, compiler, PYTHON)
    site = unpacked(layer, tmp_path) / SITE
    (site / "thing/__init__.py").write_text("VALUE = 42 # changed, and newer\n")
    program = "import thing, thing.more; print(thing.VALUE, thing.__cached__)"
    shown = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == ["41", f"{site}/thing/__pycache__/__init__.{CACHE_TAG}.pyc"]


def test_bytecode_names_the_file_as_an_image_sees_it(tmp_path: Path, compiler: Compiler) -> None:
    wheel = OddWheel(files={"thing/x.py": "def f():\n    return 1\n"})
    found = contents(layer_of(wheel, tmp_path, compiler, PYTHON))
    code = marshal.loads(found[f"{SITE}/thing/__pycache__/x.{CACHE_TAG}.pyc"][16:])
    name = f"/usr/local/lib/python{PYTHON}/site-packages/thing/x.py"
    assert code.co_filename == name
    assert code.co_consts[0].co_filename == name


def test_sources_that_do_not_compile_have_no_bytecode(tmp_path: Path, compiler: Compiler) -> None:
    bad = {
        "old.py": "print 'two'\n",
        "nul.py": "x = 1\0\n",
        "latin.py": b"x = '\xe9'\n",
        "deep.py": "(" * 5000,
        "template.py": "{{ name }} = \n",
    }
    good = {
        "cookie.py": b"# coding: latin-1\nx = '\xe9'\n",
        "empty.py": "",
        "bom.py": b"\xef\xbb\xbf1",
    }
    wheel = OddWheel(files={f"thing/{name}": data for name, data in {**bad, **good}.items()})
    found = contents(layer_of(wheel, tmp_path, compiler, PYTHON))
    compiled = {name.rpartition("/")[2].split(".")[0] for name in found if name.endswith(".pyc")}
    assert compiled == {"cookie", "empty", "bom"}
    assert f"{SITE}/thing/old.py" in found


def test_tests_of_a_package_are_there_without_bytecode(tmp_path: Path, compiler: Compiler) -> None:
    sources = ("thing/tests/test_x.py", "thing/x/tests/__init__.py")
    others = (
        "thing/__init__.py",
        "thing/tests.py",
        "thing/testing/x.py",
        "tests/__init__.py",
        "tests/x.py",
    )
    wheel = OddWheel(files=dict.fromkeys((*sources, *others), "1"))
    found = contents(layer_of(wheel, tmp_path, compiler, PYTHON))
    assert {f"{SITE}/{name}" for name in (*sources, *others)} <= set(found)
    compiled = {name for name in found if name.endswith(".pyc")}
    assert compiled == {
        f"{SITE}/{directory}/__pycache__/{name}.{CACHE_TAG}.pyc"
        for directory, name in (
            # A package of that name at the top may be anything.
            *(("tests", "__init__"), ("tests", "x")),
            *(("thing", "__init__"), ("thing", "tests"), ("thing/testing", "x")),
        )
    }


def test_without_a_python_there_is_no_bytecode(tmp_path: Path, compiler: Compiler) -> None:
    layer = layer_of(OddWheel(files={"thing.py": "1"}), tmp_path, compiler)
    assert not [name for name in contents(layer) if name.endswith(".pyc")]


def several(tmp_path: Path) -> list[tuple[WheelFile, Path]]:
    shared = {"shared/__init__.py": "OF = 'a'\n", "a.py": "1"}
    first = OddWheel(name="a", files=shared)
    second = OddWheel(name="b", files={"shared/__init__.py": "OF = 'b'\n", "b.py": "2"})
    return [first.write(tmp_path), second.write(tmp_path)]


def test_several_wheels_in_a_layer_are_what_their_layers_are(
    tmp_path: Path, compiler: Compiler
) -> None:
    wheels = several(tmp_path)
    one_by_one: dict[str, bytes] = {}
    for file, path in wheels:
        layer = make_wheel_layer(
            path, tmp_path / "one", file=file, python=PYTHON, compiler=compiler
        )
        one_by_one.update(contents(layer))
    merged = make_merged_layer(wheels, tmp_path / "all", python=PYTHON, compiler=compiler)
    with tarfile.open(merged.path) as archive:
        names = archive.getnames()
    assert len(names) == len(set(names))
    assert contents(merged) == one_by_one
    assert [each.name for each in merged.facts] == ["a", "b"]
    assert (
        merged.facts[0].files[f"{SITE}/shared/__init__.py"]
        == (hashlib.sha256(b"OF = 'a'\n").hexdigest()[:16])
    )


def test_a_wheel_without_bytecode_and_the_bytecode_of_it_are_its_layer(
    tmp_path: Path, compiler: Compiler
) -> None:
    wheels = several(tmp_path)
    merged = make_merged_layer(wheels, tmp_path / "all", python=PYTHON, compiler=compiler)
    split: dict[str, bytes] = {}
    for file, path in wheels:
        layer = make_wheel_layer(path, tmp_path / "one", file=file, python=None, compiler=compiler)
        split.update(contents(layer))
    bytecode = make_bytecode_layer(wheels, tmp_path / "pyc", python=PYTHON, compiler=compiler)
    assert not bytecode.facts
    assert all(name.endswith(".pyc") for name in contents(bytecode))
    assert {**split, **contents(bytecode)} == contents(merged)


def test_plain_files_make_a_layer(tmp_path: Path) -> None:
    layer = make_files_layer({"/app/b.py": b"b", "/app/a.txt": b"a"}, tmp_path / "files")
    assert contents(layer) == {"app/a.txt": b"a", "app/b.py": b"b"}
    assert list(members(layer)) == ["app", "app/a.txt", "app/b.py"]


def test_a_wheel_that_any_python_takes_may_have_headers(tmp_path: Path, compiler: Compiler) -> None:
    layer = layer_of(OddWheel(files={"DATA/headers/x.h": "h"}), tmp_path, compiler)
    assert "usr/local/include/python3/thing/x.h" in contents(layer)
