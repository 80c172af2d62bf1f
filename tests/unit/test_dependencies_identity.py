"""What changes the identity of an environment, and what never does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import kinetic_flows.runner_image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.dependencies.declaration import read_declaration
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.inputs import inputs_digest
from kinetic_flows.dependencies.lockfile import (
    LockedPackage,
    ShippedWheel,
    dependency_hash,
    environment_spec,
    format_lock,
    parse_lock,
)
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.uv_settings import uv_settings

TARGET = Target(
    python="3.11", platform="x86_64-manylinux_2_28", category="tpu", base_identity="b" * 64
)
NUMPY = LockedPackage(name="numpy", version="2.1.0", hashes=("sha256:" + "1" * 64,))
SHIPPED = LockedPackage(
    name="mine",
    version="0.1",
    hashes=("sha256:" + "2" * 64,),
    wheel=ShippedWheel(
        filename="mine-0.1-py3-none-any.whl", sha256=Sha256("2" * 64), size_bytes=10
    ),
)

GOLDEN = "715675d60933c9e6805e6d3be879b812883e01b403b0f23e17e1d3cf88eb3457"


def test_the_hash_is_the_sha256_of_the_documented_json() -> None:
    import hashlib

    text = (
        '{"base":"' + "b" * 64 + '","category":"tpu","indexes":["https://pypi.org/simple"],'
        '"packages":{"mine":["0.1",["sha256:' + "2" * 64 + '"]],'
        '"numpy":["2.1.0",["sha256:' + "1" * 64 + '"]]},'
        '"platform":"x86_64-manylinux_2_28","python":"3.11","template":"","version":1,'
        '"wheels":{"mine":["mine-0.1-py3-none-any.whl","' + "2" * 64 + '"]}}'
    )
    assert dependency_hash([NUMPY, SHIPPED], TARGET) == hashlib.sha256(text.encode()).hexdigest()


def test_the_hash_never_changes_between_versions_of_this_library() -> None:
    assert dependency_hash([NUMPY, SHIPPED], TARGET) == GOLDEN


def test_another_runner_does_not_change_the_hash(tmp_path: Path) -> None:
    """Every source file of the runner is edited, and an environment keeps its identity."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import kinetic_flows\n"
        "assert kinetic_flows.__file__.startswith(sys.argv[1])\n"
        "from kinetic_flows.dependencies.lockfile import environment_spec\n"
        "from kinetic_flows.dependencies.targets import cloud_target, local_target\n"
        "from kinetic_flows.code.runner_bundle import runner_bundle\n"
        "print(runner_bundle().sha256)\n"
        "for target in (local_target(),"
        " cloud_target('cpu', '3.11', base_lock='jax==0.5.0\\n', base_identity='base')):\n"
        "    print(environment_spec('# kinetic lock 1\\n', target).dependency_hash)\n"
    )
    library = tmp_path / "kinetic_flows"
    runner = library / "runner_image"
    ignored = shutil.ignore_patterns("__pycache__", "runner_image")
    shutil.copytree(Path(kinetic_flows.__file__).parent, library, ignore=ignored)
    shutil.copytree(Path(kinetic_flows.runner_image.__file__).parent, runner)
    told = []
    for _ in range(2):
        command = [sys.executable, "-c", program, str(tmp_path)]
        told.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for source in (runner / "runner").glob("*.py"):
            source.write_text(source.read_text() + "\n# another runner\n")
    before, after = (text.split() for text in told)
    assert before[0] != after[0]
    assert before[1:] == after[1:]


def test_a_lock_gives_the_same_hash_in_whatever_order_it_was_made() -> None:
    spec = environment_spec(format_lock([SHIPPED, NUMPY]), TARGET)
    assert spec.dependency_hash == dependency_hash([NUMPY, SHIPPED], TARGET)
    assert [package.name for package in spec.packages] == ["mine", "numpy"]
    assert [wheel.name for wheel in spec.wheels] == [f"wheels/{'2' * 64}/mine-0.1-py3-none-any.whl"]


names = st.from_regex(r"[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,4})?", fullmatch=True)
versions = st.from_regex(r"[0-9]{1,2}\.[0-9]{1,2}", fullmatch=True)
digests = st.integers(0, 2**256 - 1).map(lambda number: f"sha256:{number:064x}")
packages = st.builds(
    LockedPackage,
    name=names,
    version=versions,
    hashes=st.lists(digests, min_size=1, max_size=3, unique=True).map(lambda x: tuple(sorted(x))),
)
locks = st.lists(packages, min_size=1, max_size=6, unique_by=lambda package: package.name)


@given(locks)
def test_a_lock_survives_being_written_and_read(found: list[LockedPackage]) -> None:
    assert parse_lock(format_lock(found)) == tuple(sorted(found, key=lambda item: item.name))


@given(locks, st.data())
def test_any_version_or_hash_changes_the_hash(
    found: list[LockedPackage], data: st.DataObject
) -> None:
    index = data.draw(st.integers(0, len(found) - 1))
    victim = found[index]
    changed = data.draw(
        st.sampled_from(
            [
                replace(victim, version=victim.version + ".1"),
                replace(victim, hashes=(*victim.hashes[1:], "sha256:" + "f" * 64)),
            ]
        )
    )
    other = [*found[:index], changed, *found[index + 1 :]]
    assert (dependency_hash(other, TARGET) == dependency_hash(found, TARGET)) == (changed == victim)


@given(
    locks,
    st.sampled_from(
        [
            replace(TARGET, python="3.12"),
            replace(TARGET, platform="aarch64-manylinux_2_28"),
            replace(TARGET, category="gpu"),
            replace(TARGET, base_identity="c" * 64),
            replace(TARGET, template_sha256="d" * 64),
        ]
    ),
)
def test_python_platform_category_base_and_template_change_the_hash(
    found: list[LockedPackage], other: Target
) -> None:
    assert dependency_hash(found, other) != dependency_hash(found, TARGET)


@given(locks, st.randoms())
def test_order_never_changes_the_hash(found: list[LockedPackage], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert dependency_hash(shuffled, TARGET) == dependency_hash(found, TARGET)


@given(
    wanted=st.dictionaries(names, versions, min_size=1, max_size=6),
    data=st.data(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_comments_order_case_separators_space_and_duplicates_never_change_what_is_asked(
    tmp_path: Path, wanted: dict[str, str], data: st.DataObject
) -> None:
    plain = "".join(f"{name}=={version}\n" for name, version in sorted(wanted.items()))
    lines = []
    for name, version in wanted.items():
        for _ in range(data.draw(st.integers(1, 2))):
            written = "".join(
                data.draw(st.sampled_from([char.upper(), char] if char != "-" else ["-", "_", "."]))
                for char in name
            )
            space = data.draw(st.sampled_from(["", " ", "  ", " \\\n "]))
            tail = data.draw(st.sampled_from(["", "  # a note", "\t", "\n\n# alone", "\r"]))
            lines.append(f"{written}{space}=={space}{version}{tail}\n")
    shuffled = data.draw(st.permutations(lines))
    assert _asked(tmp_path, "".join(shuffled)) == _asked(tmp_path, plain)


@given(
    wanted=st.dictionaries(names, versions, min_size=2, max_size=6),
    data=st.data(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_other_version_changes_what_is_asked(
    tmp_path: Path, wanted: dict[str, str], data: st.DataObject
) -> None:
    victim = data.draw(st.sampled_from(sorted(wanted)))
    other = {**wanted, victim: f"{wanted[victim]}.1"}
    assert _asked(tmp_path, _text(other)) != _asked(tmp_path, _text(wanted))


def _text(wanted: dict[str, str]) -> str:
    return "".join(f"{name}=={version}\n" for name, version in wanted.items())


def _asked(directory: Path, text: str) -> str:
    path = directory / "requirements.txt"
    path.write_bytes(text.encode())
    source = DependencySource(kind="requirements", path=path, project_root=directory)
    declared = read_declaration(source, TARGET, environ={})
    return inputs_digest(
        declared, TARGET, settings=uv_settings(directory, {}), home=directory, environ={}
    )
