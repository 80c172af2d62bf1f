"""The same wheel gives the same layer, whoever makes it, wherever, and in whatever order."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetic_flows.core.errors import ImageError
from kinetic_flows.dependencies import uv
from kinetic_flows.images.layers import names
from kinetic_flows.images.layers.archive import LayerWriter, header
from kinetic_flows.images.layers.bytecode import Bytecode, Compiler, find_interpreter
from kinetic_flows.images.layers.make import make_merged_layer, make_wheel_layer
from odd_wheels import PROGRAM, OddWheel

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

SOURCE = '''
"""Doc."""
import os.path as path
from collections import OrderedDict, namedtuple

NAMES = {"alpha", "beta", "gamma", "delta", "not an identifier", 1, 2.5, None, ("a", "b")}

class Thing:
    alpha = beta = "alpha"

    def method(self, value, *, key="beta", **options):
        if value in {"one", "two", "three words here", b"bytes", 10**20}:
            return [OrderedDict(alpha=key) for gamma in range(300) if gamma not in (1, 2)]
        return lambda: (self, value, key, options, f"{value}:{key!r}", path.join("x", "y"))
'''
OTHERS = [
    "alpha = beta = gamma = delta = method = value = key = options = Thing = 1\n",
    "import os, collections, json, re, typing\nx = {'one', 'two', 'alpha', 'y'}\n",
    "def method(value, key): return value, key, 'beta', 'x', 10**20, 'three words here'\n",
    "def broken(:\n",
]
MAKE = """
import json, os, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from odd_wheels import OddWheel
from kinetic_flows.images.layers.bytecode import Compiler
from kinetic_flows.images.layers.make import make_wheel_layer

os.umask(int(sys.argv[3], 8))
files = json.loads(sys.stdin.read())
file, path = OddWheel(files=files).write(Path.cwd())
with Compiler(sys.argv[4], os.environ, processes=int(sys.argv[5])) as compiler:
    made = make_wheel_layer(
        path, Path.cwd() / "layer", file=file, python=sys.argv[4], compiler=compiler
    )
print(made.blob)
"""
ROOT = Path(__file__).parents[2]


def sources() -> dict[str, str]:
    return {
        **{f"thing/m{number}.py": SOURCE for number in range(5)},
        **{f"thing/other{number}.py": text for number, text in enumerate(OTHERS)},
    }


def test_other_processes_make_the_same_bytes(tmp_path: Path) -> None:
    settings = [
        {"PYTHONHASHSEED": "1", "LC_ALL": "C", "umask": "022", "processes": "1"},
        {"PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo", "umask": "077", "processes": "3"},
        {"PYTHONOPTIMIZE": "2", "PYTHONUTF8": "1", "umask": "000", "processes": "2"},
    ]
    seen = set()
    for number, each in enumerate(settings):
        directory = tmp_path / f"{number}" / ("deeper" * number)
        directory.mkdir(parents=True)
        umask, processes = each.pop("umask"), each.pop("processes")
        program = [sys.executable, "-c", MAKE, str(ROOT), str(ROOT / "tests")]
        done = subprocess.run(
            [*program, umask, PYTHON, processes],
            cwd=directory,
            env={"PATH": os.environ["PATH"], **each},
            input=json.dumps(sources()),
            capture_output=True,
            text=True,
            check=True,
        )
        seen.add(done.stdout)
    assert len(seen) == 1


IMPORTING = "# coding: iso8859-15\nx = 1\n"
"""Has the compiler import a module, whose names the interpreter then knows."""


def test_bytecode_does_not_depend_on_what_was_compiled_before() -> None:
    source = SOURCE + "import x\nx.getregentry(x.decoding_table, x.IncrementalDecoder)\n"
    found = set()
    for before in ([], OTHERS, [IMPORTING], [*OTHERS, IMPORTING]):
        with Compiler(PYTHON, os.environ, processes=1) as compiler:
            for number, text in enumerate(before):
                compiler.submit([(f"{number}", text.encode())]).result()
            found.add(compiler.submit([("/x.py", source.encode())]).result()[0])
    assert len(found) == 1


def test_order_of_wheels_and_of_files_in_them_does_not_matter(tmp_path: Path) -> None:
    files = sources()
    turned = dict(reversed(files.items()))
    diff_ids, merged = set(), set()
    with Compiler(PYTHON, os.environ) as compiler:
        for number, each in enumerate((files, turned)):
            directory = tmp_path / f"{number}"
            directory.mkdir()
            file, path = OddWheel(files=each).write(directory)
            layer = make_wheel_layer(
                path, directory / "layer", file=file, python=PYTHON, compiler=compiler
            )
            diff_ids.add(layer.blob.diff_id)
        pair = [OddWheel(name=name, files={f"{name}.py": "1"}).write(tmp_path) for name in "ba"]
        for wheels in (pair, pair[::-1]):
            layer = make_merged_layer(wheels, tmp_path / "m", python=PYTHON, compiler=compiler)
            merged.add((layer.blob.digest, tuple(fact.name for fact in layer.facts)))
    assert len(diff_ids) == 1
    assert len(merged) == 1


def test_the_bytes_of_a_layer_are_known(tmp_path: Path) -> None:
    """Other bytes would be other layers: whoever changes them raises FORMAT_VERSION."""
    wheel = OddWheel(
        files={
            "thing/__init__.py": "x = 1\n",
            f"thing/{'d' * 60}/{'e' * 60}.txt": "long",
            "thing/ü.txt": "ü",
            "thing/tool": "#!/bin/sh\n",
            "DATA/scripts/run": "#!python\nrun\n",
            "INFO/entry_points.txt": "[console_scripts]\nthing = thing:main\n",
        },
        modes={"thing/tool": PROGRAM},
    )
    file, path = wheel.write(tmp_path)
    with Compiler(PYTHON, os.environ) as unused:
        layer = make_wheel_layer(path, tmp_path / "l", file=file, python=None, compiler=unused)
    assert layer.blob.diff_id == (
        "sha256:7dd4ef57ae5876a83f4e8837c23e8b856009260c767695501a3d0baa93eb5d2a"
    )


def test_headers_are_read_as_they_were_meant(tmp_path: Path) -> None:
    long = f"{'a' * 150}/{'b' * 90}"
    with LayerWriter(tmp_path / "layer") as writer:
        writer.add_file("plain", b"1")
        writer.add_file(long, b"22", executable=True)
        writer.add_link("link", "é" * 60)
        writer.add_link("longer", "/".join(["x" * 50] * 5))
        writer.close()
    with tarfile.open(tmp_path / "layer") as archive:
        found = {member.name: member for member in archive}
    assert found["plain"].size == 1
    assert (found[long].size, found[long].mode) == (2, 0o755)
    assert found["link"].linkname == "é" * 60
    assert found["longer"].linkname == "/".join(["x" * 50] * 5)


@settings(max_examples=120, deadline=None)
@given(
    parts=st.lists(
        st.text(
            st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1
        ).filter(lambda text: text not in (".", "..")),
        min_size=1,
        max_size=6,
    ),
    size=st.one_of(st.integers(0, 1 << 40), st.just(0o77777777777), st.just(0o100000000000)),
    link=st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",))),
)
def test_every_header_means_what_was_written(parts: list[str], size: int, link: str) -> None:
    path = "/".join(parts)
    data = header(path, link=link) if link else header(path, size_bytes=size, mode=0o644)
    assert len(data) % 512 == 0
    found = tarfile.TarInfo.frombuf(data[-512:], "utf-8", "strict")
    extended = _extended(data)
    assert extended.get("path", found.name) == path
    assert extended.get("linkpath", found.linkname) == link
    if not link:
        assert int(extended.get("size", found.size)) == size


def _extended(data: bytes) -> dict[str, str]:
    """Read the records of an extended header, if there is one."""
    found = {}
    if len(data) > 512:
        before = tarfile.TarInfo.frombuf(data[:512], "utf-8", "strict")
        assert before.type == b"x"
        left = data[512 : 512 + before.size]
        while left:
            length, _, rest = left.partition(b" ")
            name, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
            found[name.decode()] = value.decode()
            left = left[int(length) :]
    return found


def test_a_size_of_many_gigabytes_has_room() -> None:
    assert _extended(header("x", size_bytes=1 << 36)) == {"size": str(1 << 36)}


def test_tags_say_what_makes_the_bytes() -> None:
    digest, other = "a" * 64, "b" * 64
    assert names.wheel_tag(digest, "3.11") == f"whl-{digest}-py3.11-l1"
    assert names.wheel_tag(digest, None) == f"whl-{digest}-any-l1"
    both = hashlib.sha256(f"{digest}\n{other}".encode()).hexdigest()
    assert names.bytecode_tag([other, digest], "3.12") == f"pyc-{both}-py3.12-l1"
    assert names.merged_tag([digest, other, digest], "3.12") == f"set-{both}-py3.12-l1"
    upstream = hashlib.sha256(b"sha256:1").hexdigest()
    assert names.site_tag("sha256:1", "3.13") == f"site-{upstream}-py3.13-l1"


@pytest.mark.parametrize("tag", [names.merged_tag([], "3.11"), names.wheel_tag("f" * 64, "3.11")])
def test_a_registry_takes_the_tags(tag: str) -> None:
    assert len(tag) <= 128
    assert set(tag) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")


def test_a_writer_that_is_not_closed_leaves_nothing(tmp_path: Path) -> None:
    with LayerWriter(tmp_path / "layer") as writer:
        writer.add_file("x", b"1")
    assert not list(tmp_path.iterdir())


def test_sources_that_bring_the_compiler_down_are_left_without_bytecode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text(f'#!/bin/sh\nulimit -s 192\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    deep = b"[" * 190 + b"]" * 190
    with Compiler(PYTHON, os.environ, processes=1) as compiler:
        bytecode = Bytecode(compiler)
        for number, source in enumerate([b"a = 1", deep, b"b = 1"]):
            bytecode.add(f"usr/local/lib/python3/site-packages/m{number}.py", source)
        found = [path.rpartition("/")[2].split(".")[0] for path, _ in bytecode.finish()]
    assert found == ["m0", "m2"]


def test_a_python_that_is_another_one_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "python"
    interpreter.write_text("#!/bin/sh\nexit 3\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    with (
        Compiler(PYTHON, os.environ, processes=1) as compiler,
        pytest.raises(ImageError, match=f"there is no Python {PYTHON} here") as caught,
    ):
        compiler.submit([("x", b"1")]).result()
    assert f"uv python install {PYTHON}" in str(caught.value)


def test_a_python_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    environ = {"PATH": "", "HOME": str(tmp_path), "UV_OFFLINE": "1"}
    with Compiler("3.4", environ) as compiler, pytest.raises(ImageError) as caught:
        compiler.submit([("x", b"1")]).result()
    assert caught.value.message.startswith("there is no Python 3.4 here to make bytecode with: ")
    assert "uv python install 3.4" in str(caught.value)
    assert not list(tmp_path.rglob("python3*"))


def test_a_python_that_is_installed_and_not_found_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "uv"
    program.write_text('#!/bin/sh\n[ "$2" = install ] || { echo "only-system" >&2; exit 2; }\n')
    program.chmod(0o755)
    monkeypatch.setattr(uv, "find_uv", lambda: str(program))
    with pytest.raises(ImageError, match=r"to make bytecode with: only-system"):
        find_interpreter("3.4", {"PATH": os.environ["PATH"]})


def test_a_layer_that_cannot_be_written_is_an_error_about_images(tmp_path: Path) -> None:
    file, path = OddWheel(files={"x.py": "1"}).write(tmp_path)
    target = tmp_path / "missing" / "layer"
    with Compiler(PYTHON, os.environ) as unused, pytest.raises(ImageError) as caught:
        make_wheel_layer(path, target, file=file, python=None, compiler=unused)
    assert f"it is written to {target.parent}" in str(caught.value)


def test_an_interrupted_compiler_ends_its_processes() -> None:
    compiler = Compiler(PYTHON, os.environ, processes=2)
    large = b"x = [1, 2, 3]\n" * 200_000
    futures = []

    def interrupted() -> None:
        with compiler:
            compiler.check()
            futures.extend(compiler.submit([(f"{number}", large)]) for number in range(8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len([future for future in futures if future.done()]) == 8
    assert compiler._children
    assert all(child._process.poll() is not None for child in compiler._children)
