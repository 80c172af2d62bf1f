"""A wheel that is damaged, hostile or another one is refused by name, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import struct
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.layers import wheel as reading
from kinetic_flows.images.layers.bytecode import Compiler
from kinetic_flows.images.layers.make import (
    WheelRefused,
    make_bytecode_layer,
    make_merged_layer,
    make_wheel_layer,
)
from odd_wheels import OddWheel, written

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    with Compiler(PYTHON, os.environ, processes=1) as made:
        yield made


@pytest.fixture
def refusal(tmp_path: Path, compiler: Compiler) -> Callable[..., str]:
    """Return what makes a wheel, and says why it was refused."""

    def tried(
        wheel: OddWheel,
        change: Callable[[bytearray], bytes | bytearray] = bytes,
        *,
        python: str | None = PYTHON,
    ) -> str:
        data = bytes(change(bytearray(wheel.data())))
        sources, target = tmp_path / "wheels", tmp_path / "layers"
        sources.mkdir(exist_ok=True)
        target.mkdir(exist_ok=True)
        file, path = written(data, wheel.filename, sources, name=wheel.name, version=wheel.version)
        with pytest.raises(WheelRefused) as caught:
            make_wheel_layer(path, target / "layer", file=file, python=python, compiler=compiler)
        assert not list(target.iterdir())
        assert wheel.filename in caught.value.message
        assert caught.value.hint
        return caught.value.message.partition("cannot become a layer: ")[2]

    return tried


Refusal = Callable[..., str]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("../evil.py", "../evil.py climbs out of its directory"),
        ("thing/../../evil.py", "thing/../../evil.py climbs out of its directory"),
        ("DATA/data/../../x", "thing-1.0.data/data/../../x climbs out of its directory"),
        ("DATA/scripts/../x", "thing-1.0.data/scripts/../x climbs out of its directory"),
        ("/etc/passwd", "/etc/passwd is an absolute path"),
        ("//etc/passwd", "//etc/passwd is an absolute path"),
        ("thing\\evil.py", "thing\\evil.py is a path of Windows"),
        ("C:/evil.py", "C:/evil.py is a path of Windows"),
        ("thing//x.py", "thing//x.py is not a plain path"),
        ("thing/./x.py", "thing/./x.py is not a plain path"),
        ("thing/a\nb.py", "thing/a\\nb.py has control characters in its name"),
        ("thing/a\x1bb.py", "thing/a\\x1bb.py has control characters in its name"),
        ("thing/.wh.os.py", "thing/.wh.os.py has the name of a whiteout"),
        (".wh..wh..opq", ".wh..wh..opq has the name of a whiteout"),
        ("thing/" + "x" * 256, "is longer than a file name can be"),
        ("/".join(["x" * 200] * 21), "is too long"),
        ("DATA/scripts/python3", "/usr/local/bin/python3 is the interpreter's own"),
        ("DATA/data/bin/python3/x", "/usr/local/bin/python3/x is the interpreter's own"),
        ("DATA/data/bin/python", "/usr/local/bin/python is the interpreter's own"),
        (f"DATA/data/bin/python{PYTHON}", "is the interpreter's own"),
        (f"DATA/data/lib/python{PYTHON}/os.py", "os.py is the interpreter's own"),
        (f"DATA/data/lib/libpython{PYTHON}.so.1.0", "is the interpreter's own"),
        ("DATA/data/pyvenv.cfg", "/usr/local/pyvenv.cfg is the interpreter's own"),
        ("DATA/data/bin/pyvenv.cfg", "is the interpreter's own"),
        ("DATA/data/bin", "/usr/local/bin is a directory of every image"),
        ("DATA/data/lib/python3/site-packages", "is a directory of every image"),
        ("thing/__pycache__", "thing/__pycache__ is where bytecode goes"),
        ("DATA/scripts/more/run", "more/run among its scripts is in a directory"),
        ("DATA/odd/x", "not contained in a valid .data subdirectory"),
        ("DATA/x", "its metadata is wrong"),
        ("other-1.0.dist-info/METADATA", "it has 2 directories of metadata"),
    ],
)
def test_paths_that_no_wheel_may_write(path: str, why: str, refusal: Refusal) -> None:
    assert why in refusal(OddWheel(files={path: "x"}))


def test_a_layer_for_any_python_has_nothing_of_one(refusal: Refusal) -> None:
    wheel = OddWheel(files={"DATA/data/lib/python3.1/site-packages/x.py": "1"})
    assert "is the interpreter's own" in refusal(wheel, python=None)


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        (("Thing/x.py", "thing/X.py"), "differ only in how they are written"),
        (("thing/ß.py", "thing/SS.py"), "differ only in how they are written"),
        (("thing/\u00e9.py", "thing/e\u0301.py"), "differ only in how they are written"),
        (("x.py", "DATA/purelib/x.py"), "two of its files would be /usr/local/lib/python3/site"),
        (("x.py", "DATA/data/lib/python3/site-packages/x.py"), "two of its files would be"),
        (("DATA/scripts/x", "DATA/data/bin/x"), "two of its files would be /usr/local/bin/x"),
        (("thing/x", "thing/x/y"), "x is a file, and the directory of"),
        (("thing/x", "THING/X/y"), "x is a file, and the directory of"),
    ],
)
def test_files_that_cannot_be_together(paths: tuple[str, ...], why: str, refusal: Refusal) -> None:
    assert why in refusal(OddWheel(files=dict.fromkeys(paths, "x")))


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        (0o120777, "a link"),
        (0o020666, "a device"),
        (0o060666, "a device"),
        (0o010666, "a pipe"),
        (0o140666, "a socket"),
        (0o040755, "a directory with the name of a file"),
        (0o170000, "neither a file nor a directory"),
    ],
)
@pytest.mark.parametrize("system", [0, 3])
def test_what_is_no_file(mode: int, what: str, system: int, refusal: Refusal) -> None:
    wheel = OddWheel(
        files={"thing/x": "/etc/passwd"},
        modes={"thing/x": mode},
        change=lambda entry: setattr(entry, "create_system", system),
    )
    assert refusal(wheel) == f"thing/x is {what}"


def test_a_directory_with_content(refusal: Refusal) -> None:
    assert refusal(OddWheel(files={"thing/x/": "x"})) == "thing/x/ is a directory with content"


def test_the_same_name_twice(refusal: Refusal) -> None:
    def renamed(data: bytearray) -> bytearray:
        return data.replace(b"thing/b.py", b"thing/a.py")

    wheel = OddWheel(files={"thing/a.py": "1", "thing/b.py": "2"}, record="")
    assert refusal(wheel, renamed) == "it has thing/a.py twice"


def test_a_name_that_ends_at_a_nul(refusal: Refusal) -> None:
    def cut(data: bytearray) -> bytearray:
        return data.replace(b"thing/a.py0evil", b"thing/a.py\0evil")

    wheel = OddWheel(files={"thing/a.py0evil": "1"}, record="")
    assert refusal(wheel, cut) == "thing/a.py\\x00evil has two names"


def test_a_name_in_an_unknown_encoding(refusal: Refusal) -> None:
    def unmarked(data: bytearray) -> bytearray:
        for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            for found in re.finditer(re.escape(mark), bytes(data)):
                data[found.start() + flags + 1] &= ~0x08
        return data

    wheel = OddWheel(files={"thing/é.py": "1"}, record="")
    assert refusal(wheel, unmarked).endswith("is not marked as UTF-8")


# What follows is done to the bytes of the wheel's file. The first entry is `x`, its content
# 5000 times the same letter.

LOCAL_BYTES = 30
LOCAL = {"flags": 6, "method": 8, "crc": 14, "short": 18, "size": 22, "extra": 28}
CENTRAL = {"flags": 8, "method": 10, "crc": 16, "short": 20, "size": 24, "offset": 42}
VICTIM = OddWheel(files={"x": "a" * 5000, "y.py": "y = 1\n"}, record="")


def local(data: bytearray, **fields: int) -> bytearray:
    """Change what stands before the first file."""
    return _written(data, 0, LOCAL, fields)


def central(data: bytearray, **fields: int) -> bytearray:
    """Change what the directory says of the first file."""
    return _written(data, data.find(b"PK\1\2"), CENTRAL, fields)


def _written(data: bytearray, at: int, places: dict[str, int], fields: dict[str, int]) -> bytearray:
    for name, value in fields.items():
        kind = "<H" if name in ("flags", "method", "extra") else "<L"
        struct.pack_into(kind, data, at + places[name], value)
    return data


def inserted(data: bytearray, at: int, more: bytes) -> bytearray:
    """Put something into the first entry, and correct the places in the directory."""
    data[at:at] = more
    for found in re.finditer(re.escape(b"PK\1\2"), bytes(data)):
        place = found.start() + CENTRAL["offset"]
        (offset,) = struct.unpack_from("<L", data, place)
        struct.pack_into("<L", data, place, offset + len(more) if offset else 0)
    place = data.rfind(b"PK\5\6") + 16
    (start,) = struct.unpack_from("<L", data, place)
    struct.pack_into("<L", data, place, start + len(more))
    return data


def short_of(data: bytearray) -> int:
    """Return how long the data of the first file is."""
    found: int = struct.unpack_from("<L", data, LOCAL["short"])[0]
    return found


def both(data: bytearray, **fields: int) -> bytearray:
    return central(local(data, **fields), **fields)


def flipped(data: bytearray, at: int) -> bytearray:
    data[at] ^= 0xFF
    return data


FIRST_DATA = LOCAL_BYTES + 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: both(data, size=4999), "x holds more than it says"),
        (lambda data: both(data, size=5001), "x has not the size that it says"),
        (lambda data: central(data, size=4999), "it says two things of x"),
        (lambda data: local(data, size=4999), "it says two things of x"),
        (lambda data: local(data, short=4), "it says two things of x"),
        (lambda data: both(data, crc=7), "x has not the checksum that it says"),
        (lambda data: central(data, crc=7), "it says two things of x"),
        (lambda data: both(data, flags=1), "x is encrypted"),
        (lambda data: both(data, flags=0x41), "x is encrypted"),
        (lambda data: both(data, flags=0x20), "x is compressed in a way that wheels are not"),
        (lambda data: both(data, method=12), "x is compressed in a way that wheels are not"),
        (lambda data: both(data, method=0), "x says two sizes"),
        (lambda data: local(data, method=0), "it says two things of x"),
        (lambda data: local(data, flags=8), "it says two things of x"),
        (lambda data: central(data, offset=7), "something stands before its first file"),
        (lambda data: b"#!/bin/sh\n" + data, "something stands before its first file"),
        (lambda data: flipped(data, FIRST_DATA), "x is damaged"),
        (lambda data: flipped(data, 0), "x is not where its directory says"),
        (lambda data: flipped(data, LOCAL_BYTES), "it says two things of"),
        (lambda data: data[:-10], "it is not a sound zip file"),
        (lambda data: data[len(data) // 2 :], "its beginning is missing, with x"),
        (lambda data: b"", "it is not a sound zip file"),
        (lambda data: b"<html>not here</html>", "it is not a sound zip file"),
    ],
)
def test_a_file_that_contradicts_itself(
    change: Callable[[bytearray], bytearray], why: str, refusal: Refusal
) -> None:
    assert why in refusal(VICTIM, change)


def test_a_stream_that_goes_on_after_its_end(refusal: Refusal) -> None:
    def longer(data: bytearray) -> bytearray:
        short = short_of(data)
        return both(inserted(data, FIRST_DATA + short, b"more"), short=short + 4)

    assert refusal(VICTIM, longer) == "something stands behind x"


def test_a_stream_that_does_not_end(refusal: Refusal) -> None:
    assert "x ends too early" in refusal(VICTIM, lambda d: both(d, short=short_of(d) - 1))


def test_files_that_overlap(refusal: Refusal) -> None:
    def longer(data: bytearray) -> bytearray:
        return both(data, short=500)

    assert re.search("overlaps|reaches beyond", refusal(VICTIM, longer))


def test_a_bomb_by_ratio(refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "ALWAYS_ALLOWED_BYTES", 1 << 20)
    bomb = OddWheel(files={"x": bytes(3 << 20)})
    assert re.fullmatch(r"its \S+ kB would become 3\.1 MB", refusal(bomb))


def test_a_bomb_by_size(refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGEST_BYTES", 2000)
    assert "would become" in refusal(OddWheel(files={"x": os.urandom(3000)}))


def test_a_bomb_that_hides_its_size_is_stopped_early(
    refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    inflated = []
    real = reading.Wheel._inflated

    def counted(self, *given):
        for plain in real(self, *given):
            inflated.append(len(plain))
            yield plain

    monkeypatch.setattr(reading.Wheel, "_inflated", counted)
    bomb = OddWheel(files={"x": bytes(60 << 20)}, record="")
    assert "x holds more than it says" in refusal(bomb, lambda data: both(data, size=10))
    assert sum(inflated) < 16 << 20


def test_too_many_files(refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_FILES", 10)
    wheel = OddWheel(files={f"f{number}": "" for number in range(10)})
    assert refusal(wheel) == "it has 13 files, of which 10 are allowed"


def wide(sizes: bytes) -> Callable[[bytearray], bytearray]:
    """Return what gives the first file its sizes in a field for large files."""

    def changed(data: bytearray) -> bytearray:
        local(data, size=0xFFFFFFFF, short=0xFFFFFFFF, extra=len(sizes))
        return inserted(data, FIRST_DATA, sizes)

    return changed


@pytest.mark.parametrize(
    "sizes",
    [
        struct.pack("<HHQQ", 1, 16, 5000, 999),
        struct.pack("<HHQ", 1, 8, 4999),
        struct.pack("<HHQ", 1, 99, 5000),
        struct.pack("<HHL", 1, 4, 5000),
        struct.pack("<HH", 1, 0),
        struct.pack("<HHQHHQ", 1, 8, 5000, 1, 8, 5000),
        b"",
    ],
)
def test_sizes_of_large_files_that_lie(sizes: bytes, refusal: Refusal) -> None:
    assert refusal(VICTIM, wide(sizes)) == "it says two things of x"


def test_sizes_of_large_files_that_are_right_are_taken(tmp_path: Path, compiler: Compiler) -> None:
    data = bytearray(VICTIM.data())
    data = wide(struct.pack("<HHQQ", 1, 16, 5000, short_of(data)))(data)
    file, path = written(bytes(data), VICTIM.filename, tmp_path, name="thing", version="1.0")
    made = make_wheel_layer(path, tmp_path / "l", file=file, python=None, compiler=compiler)
    assert "usr/local/lib/python3/site-packages/x" in made.facts[0].files


INFO = "thing-1.0.dist-info"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (f"x,,\n{INFO}/METADATA,,\n", "is not in its RECORD"),
        ("x,sha256=AAAA,\n", "x is not what RECORD says"),
        ("x,sha512=AAAA,\n", "x is not what RECORD says"),
        ("x,md5=AAAA,\n", "x is not what RECORD says"),
        ("x,crc7=AAAA,\n", "its RECORD has digests by crc7"),
        ("x,,2\n", "x has not the size of its RECORD"),
        ("x,,\ngone.py,,\n", "gone.py of its RECORD is not in it"),
        ("x,,\n../../gone.py,,\n", "../../gone.py of its RECORD is not in it"),
        ("x\n", "its RECORD has a line of 1 columns: x"),
        ("\0,,\n", "RECORD"),
    ],
)
def test_a_record_that_is_not_of_the_wheel(record: str, why: str, refusal: Refusal) -> None:
    rest = "".join(f"{INFO}/{name},,\n" for name in ("METADATA", "WHEEL", "RECORD"))
    whole = record if "METADATA" in record else record + rest
    assert why in refusal(OddWheel(files={"x": "x"}, record=whole))


@pytest.mark.parametrize("record", ["", "\n"])
def test_a_record_that_says_nothing_is_taken(
    record: str, tmp_path: Path, compiler: Compiler
) -> None:
    file, path = OddWheel(files={"x": "x"}, record=record).write(tmp_path)
    make_wheel_layer(path, tmp_path / "l", file=file, python=None, compiler=compiler)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512", "md5"])
def test_digests_of_any_kind_are_compared(
    algorithm: str, tmp_path: Path, compiler: Compiler
) -> None:
    digest = urlsafe_b64encode(hashlib.new(algorithm, b"x").digest()).decode()
    rest = "".join(f"{INFO}/{name},,\n" for name in ("METADATA", "WHEEL", "RECORD"))
    wheel = OddWheel(files={"x": "x"}, record=f"x,{algorithm}={digest},1\n{rest}")
    file, path = wheel.write(tmp_path)
    make_wheel_layer(path, tmp_path / "l", file=file, python=None, compiler=compiler)


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ("Name: other\nVersion: 1.0\n", "its METADATA is of other 1.0, not of thing==1.0"),
        ("Name: thing\nVersion: 2.0\n", "its METADATA is of thing 2.0, not of thing==1.0"),
        ("Name: thing\nVersion: so-so\n", "its METADATA is of thing so-so"),
        ("", "its METADATA is of"),
    ],
)
def test_metadata_of_another_package(metadata: str, why: str, refusal: Refusal) -> None:
    assert why in refusal(OddWheel(metadata=metadata))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"name": "other"}, "its name is not that of other==1.0"),
        ({"version": "2"}, "its name is not that of thing==2"),
        ({"filename": "thing.whl"}, "its name is none of a wheel"),
        ({"filename": "thing-1.0.zip"}, "its name is none of a wheel"),
        ({"filename": "thing-2.0-py3-none-any.whl", "version": "2.0"}, "of another package"),
        ({"sha256": "0" * 64}, "its SHA-256 is"),
    ],
)
def test_a_wheel_that_is_another_one(
    change: dict[str, str], why: str, tmp_path: Path, compiler: Compiler
) -> None:
    file, path = OddWheel(files={"x.py": "1"}).write(tmp_path)
    other = replace(file, **change)  # type: ignore[arg-type]
    with pytest.raises(WheelRefused, match=re.escape(why)):
        make_wheel_layer(path, tmp_path / "layer", file=other, python=None, compiler=compiler)
    assert not (tmp_path / "layer").exists()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"INFO/WHEEL": "Wheel-Version: 2.0\nRoot-Is-Purelib: true\n"}, "Wheel-Version 2.0"),
        ({"INFO/WHEEL": ""}, "Wheel-Version None"),
        ({"INFO/WHEEL": b"\xff\xfe"}, "WHEEL is not UTF-8"),
        ({"INFO/entry_points.txt": "[console_scripts]\nx = y\n"}, "names no function"),
        ({"INFO/entry_points.txt": "[console_scripts]\nx = y:z\nx = y:w\n"}, "already exists"),
        ({"INFO/entry_points.txt": "[console_scripts]\nx\n"}, "its metadata is wrong"),
        ({"INFO/entry_points.txt": "x = y:z\n"}, "its metadata is wrong"),
        ({"INFO/entry_points.txt": "[console_scripts]\n../x = y:z\n"}, "is in a directory"),
        ({"INFO/entry_points.txt": "[console_scripts]\n.. = y:z\n"}, "climbs out"),
        ({"INFO/entry_points.txt": "[console_scripts]\npython3 = y:z\n"}, "interpreter's own"),
        ({"INFO/entry_points.txt": "[console_scripts]\n.wh.x = y:z\n"}, "whiteout"),
        ({"INFO/entry_points.txt": "[console_scripts]\nx = os; evil:z\n"}, "names no function"),
    ],
)
def test_metadata_that_is_wrong(files: dict[str, str], why: str, refusal: Refusal) -> None:
    assert why in refusal(_WithWheel(files=files))


class _WithWheel(OddWheel):
    """A wheel whose `WHEEL` can be another one."""

    def contents(self) -> dict[str, bytes]:
        found = super().contents()
        for path, content in self.files.items():
            found[self.path(path)] = content.encode() if isinstance(content, str) else content
        found[self.path("INFO/RECORD")] = b""
        return found


@pytest.mark.parametrize("name", ["METADATA", "WHEEL", "RECORD"])
def test_metadata_that_is_missing(name: str, refusal: Refusal) -> None:
    def without(data: bytearray) -> bytearray:
        return data.replace(f"dist-info/{name}".encode(), f"dist-info/{name[::-1]}".encode())

    assert refusal(OddWheel(record="" if name != "RECORD" else None), without) == (
        f"it has no {INFO}/{name}"
    )


def test_a_refused_wheel_among_several_leaves_no_layer(tmp_path: Path, compiler: Compiler) -> None:
    good = OddWheel(name="good", files={"good.py": "1"}).write(tmp_path)
    bad = OddWheel(name="worse", files={"../worse.py": "1"}).write(tmp_path)
    target = tmp_path / "layers"
    target.mkdir()
    for make in (make_bytecode_layer, make_merged_layer):
        with pytest.raises(WheelRefused, match=r"worse-1\.0-py3-none-any\.whl"):
            make([good, bad], target / "layer", python=PYTHON, compiler=compiler)
        assert not list(target.iterdir())


def test_refusals_are_errors_about_images_and_survive_pickling(
    tmp_path: Path, compiler: Compiler
) -> None:
    file, path = OddWheel(files={"/x": "1"}).write(tmp_path)
    with pytest.raises(ImageError) as caught:
        make_wheel_layer(path, tmp_path / "l", file=file, python=None, compiler=compiler)
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, WheelRefused)
    assert str(again) == str(caught.value)
    assert again.value == "/x"


SOUND = OddWheel(
    files={"thing/x.py": "x = 1\n" * 40, "DATA/scripts/run": "#!python\n", "thing/y": b"\0" * 300}
).data()


@settings(max_examples=120, deadline=None)
@given(at=st.integers(0, len(SOUND) - 1), bits=st.integers(1, 255))
def test_any_damage_to_a_wheel_is_refused_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, at: int, bits: int
) -> None:
    data = bytearray(SOUND)
    data[at] ^= bits
    directory = tmp_path_factory.mktemp("damaged", numbered=True)
    _make_or_refuse(bytes(data), directory)


@settings(max_examples=40, deadline=None)
@given(length=st.integers(0, len(SOUND)), more=st.binary(max_size=20))
def test_any_end_of_a_wheel_is_refused_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, length: int, more: bytes
) -> None:
    _make_or_refuse(SOUND[:length] + more, tmp_path_factory.mktemp("cut", numbered=True))


def _make_or_refuse(data: bytes, directory: Path) -> None:
    """Make a layer; if that works, its content is that of the sound wheel."""
    filename = OddWheel().filename
    file, path = written(data, filename, directory, name="thing", version="1.0")
    sound, its_path = written(SOUND, filename, directory / "..", name="thing", version="1.0")
    with Compiler(PYTHON, os.environ) as unused:
        try:
            made = _any(path, file, directory, unused)
        except WheelRefused:
            return
        assert made == _any(its_path, sound, directory, unused)


def _any(path: Path, file: WheelFile, directory: Path, compiler: Compiler) -> dict[str, str]:
    made = make_wheel_layer(path, directory / "l", file=file, python=None, compiler=compiler)
    return dict(made.facts[0].files)
