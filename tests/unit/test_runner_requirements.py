"""Requirements that the runner installs: with uv, checked, beside the image's own packages."""

from __future__ import annotations

import io
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from kinetic_flows.runner_image.runner.requirements import blamed_package

from kinetic_flows.core.job import (
    EXIT_OBJECT_REFUSED,
    EXIT_OBJECT_UNAVAILABLE,
    EXIT_REQUIREMENTS_FAILED,
    EXIT_RUNTIME_UNFIT,
)
from kinetic_flows.core.job_parts import ObjectRef, RequirementsSpec
from kinetic_flows.dependencies.uv import find_uv
from runner_jobs import Ended, Job, make_bare_python, start_runner, wait

SOURCE = """
    import subprocess
    import paint
    def main():
        return paint.COLOUR, subprocess.run(["paint-it"], capture_output=True, text=True).stdout
"""


def _wheel(version: str = "1.0", **modules: str) -> bytes:
    """Return a wheel of a package `paint` with a module and a command."""
    info = f"paint-{version}.dist-info"
    files = {
        "paint.py": f"COLOUR = 'red {version}'\ndef main():\n    print(COLOUR)\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: paint\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\npaint-it = paint:main\n",
        **{f"{name}.py": text for name, text in modules.items()},
    }
    record = "".join(
        f"{name},sha256={_record_digest(text)},{len(text)}\n" for name, text in files.items()
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return buffer.getvalue()


def _record_digest(text: str) -> str:
    return urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()


def _lock(wheel: bytes, version: str = "1.0") -> str:
    digest = sha256(wheel).hexdigest()
    return f"# kinetic lock 1\npaint=={version} \\\n    --hash=sha256:{digest}\n"


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "store", source=SOURCE)


def _require(job: Job, lock: str, wheel: bytes, *, version: str = "1.0", **changes: Any) -> None:
    name = f"wheels/{sha256(wheel).hexdigest()}/paint-{version}-py3-none-any.whl"
    spec: dict[str, Any] = {
        "lock": job.put("locks/1.txt", lock.encode()),
        "wheels": (job.put(name, wheel),),
        "offline": True,
        **changes,
    }
    job.changes = {"requirements": RequirementsSpec(**spec)}


def _run(job: Job, python: Path, **variables: str) -> Ended:
    path = f"{Path(find_uv()).parent}:/usr/bin:/bin"
    return wait(start_runner({**job.write(), "PATH": path, **variables}, python=python))


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an image with cloudpickle."""
    return make_bare_python(tmp_path / "image", with_cloudpickle=True)


def test_a_wheel_of_the_job_is_installed_beside_the_image(job: Job, python: Path) -> None:
    wheel = _wheel()
    _require(job, _lock(wheel), wheel)
    ended = _run(job, python)
    assert ended.exit_code == 0, ended.output
    assert job.value() == ("red 1.0", "red 1.0\n")
    assert "installing 1 of the project's 1 packages" in ended.output
    assert "+ paint==1.0" in ended.output
    assert "installed in" in ended.output
    assert not list(python.parent.parent.rglob("paint*"))


def test_a_package_that_is_built_finds_no_key_of_the_run(
    job: Job, python: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    uv = tmp_path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text(f'#!/bin/sh\nenv > {seen}\nexec {find_uv()} "$@"\n')
    uv.chmod(0o755)
    wheel = _wheel()
    _require(job, _lock(wheel), wheel)
    keys = {"KINETIC_SEAL_KEY": "5a" * 32, "KINETIC_VALUE_OF_TOKEN": "t", "PREFECT_API_KEY": "pnu"}
    path = f"{uv.parent}:/usr/bin:/bin"
    ended = _run(job, python, **keys, PATH=path, UV_INDEX_URL="http://127.0.0.1:9")
    assert ended.exit_code == 0, ended.output
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert "UV_INDEX_URL" in names
    assert not names & {*keys, "KINETIC_RUN_KEY"}


def test_a_package_that_the_image_has_in_this_version_is_not_installed(
    job: Job, python: Path
) -> None:
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    zipfile.ZipFile(io.BytesIO(_wheel())).extractall(packages)
    job.source = "import paint\ndef main():\n return paint.COLOUR"
    _require(job, _lock(b"not needed"), b"not needed")
    ended = _run(job, python)
    assert ended.exit_code == 0
    assert ended.output == "kinetic: the image has all 1 packages of the project\n"
    assert job.value() == "red 1.0"


def test_another_version_than_the_images_comes_first(job: Job, python: Path) -> None:
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    zipfile.ZipFile(io.BytesIO(_wheel("0.9"))).extractall(packages)
    wheel = _wheel()
    _require(job, _lock(wheel), wheel)
    assert _run(job, python).exit_code == 0
    assert job.value()[0] == "red 1.0"


def test_a_package_hides_no_module_of_the_standard_library(job: Job, python: Path) -> None:
    wheel = _wheel(statistics="mean = max")
    job.source = "import paint, statistics\ndef main():\n return statistics.mean([1, 3])"
    _require(job, _lock(wheel), wheel)
    ended = _run(job, python)
    assert ended.exit_code == 0, ended.output
    assert job.value() == 2


def test_a_wheel_whose_hash_the_lock_does_not_have_is_not_installed(job: Job, python: Path) -> None:
    wheel = _wheel()
    _require(job, _lock(b"another"), wheel)
    ended = _run(job, python)
    assert ended.exit_code == EXIT_REQUIREMENTS_FAILED
    message = job.envelope().header.message
    assert message.startswith("uv could not install paint")
    assert "hash" in message.lower(), "uv's own last lines follow"


def test_a_tampered_wheel_is_refused(job: Job, python: Path) -> None:
    wheel = _wheel()
    _require(job, _lock(wheel), wheel)
    spec = job.changes["requirements"]
    ref = spec.wheels[0]
    wrong = ObjectRef(name=ref.name, sha256="0" * 64, size_bytes=ref.size_bytes)  # type: ignore[arg-type]
    job.changes = {"requirements": RequirementsSpec(lock=spec.lock, wheels=(wrong,))}
    ended = _run(job, python)
    assert ended.exit_code == EXIT_OBJECT_REFUSED
    assert f"the object {ref.name} is refused" in ended.output


def test_a_wheel_that_is_not_in_the_store_is_named(job: Job, python: Path) -> None:
    wheel = _wheel()
    _require(job, _lock(wheel), wheel)
    name = job.changes["requirements"].wheels[0].name
    (job.root / name).unlink()
    ended = _run(job, python)
    assert ended.exit_code == EXIT_OBJECT_UNAVAILABLE
    assert f"the object {name} cannot be fetched" in job.envelope().header.message


def test_wheels_of_the_job_come_past_a_proxy_and_where_uv_is_to_stay_offline(
    job: Job, python: Path
) -> None:
    wheel = _wheel()
    _require(job, _lock(wheel), wheel)
    nowhere = "http://127.0.0.1:9"
    ended = _run(job, python, HTTP_PROXY=nowhere, ALL_PROXY=nowhere, UV_OFFLINE="1")
    assert ended.exit_code == 0, ended.output


def test_a_wheel_of_a_local_version_is_installed(job: Job, python: Path) -> None:
    wheel = _wheel("1.0+blue.1")
    _require(job, _lock(wheel, "1.0+blue.1"), wheel, version="1.0+blue.1")
    ended = _run(job, python)
    assert ended.exit_code == 0, ended.output
    assert job.value()[0] == "red 1.0+blue.1"


def test_a_lock_that_contradicts_the_images_constraints_is_refused(
    job: Job, python: Path, tmp_path: Path
) -> None:
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("paint==0.9\n")
    wheel = _wheel()
    _require(job, _lock(wheel), wheel, constraints=str(constraints))
    assert _run(job, python).exit_code == EXIT_REQUIREMENTS_FAILED
    assert "paint==0.9" in job.envelope().header.message


def test_an_image_without_uv_is_told_so(job: Job, python: Path) -> None:
    wheel = _wheel()
    _require(job, _lock(wheel), wheel)
    ended = wait(start_runner({**job.write(), "PATH": "/nowhere"}, python=python))
    assert ended.exit_code == EXIT_RUNTIME_UNFIT
    assert "the image lacks uv" in ended.output


def test_uv_is_found_where_it_is_a_package_of_the_image(job: Job, python: Path) -> None:
    import uv

    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    (packages / "uv").symlink_to(Path(uv.__file__).parent)
    (python.parent / "uv").symlink_to(find_uv())
    wheel = _wheel()
    _require(job, _lock(wheel), wheel)
    ended = wait(start_runner({**job.write(), "PATH": "/nowhere"}, python=python))
    assert ended.exit_code == 0, ended.output


def test_an_empty_lock_needs_no_uv(job: Job, python: Path) -> None:
    job.source = "def main():\n return 1"
    spec = RequirementsSpec(lock=job.put("locks/1.txt", b"# kinetic lock 1\n"))
    job.changes = {"requirements": spec}
    ended = wait(start_runner({**job.write(), "PATH": "/nowhere"}, python=python))
    assert ended.exit_code == 0, ended.output


def test_a_wheel_of_a_package_that_the_image_has_is_not_fetched(job: Job, python: Path) -> None:
    (packages,) = python.parent.parent.glob("lib/python*/site-packages")
    zipfile.ZipFile(io.BytesIO(_wheel())).extractall(packages)
    job.source = "import paint\ndef main():\n return paint.COLOUR"
    wheel = _wheel()
    _require(job, _lock(wheel), wheel)
    spec = job.changes["requirements"]
    gone = ObjectRef(name="wheels/0/paint-1.0-py3-none-any.whl", sha256="0" * 64, size_bytes=1)  # type: ignore[arg-type]
    job.changes = {"requirements": RequirementsSpec(lock=spec.lock, wheels=(gone,), offline=True)}
    assert _run(job, python).exit_code == 0


@pytest.mark.parametrize(
    ("line", "package"),
    [
        ("  x Failed to download `humanize==4.12.3`", "humanize==4.12.3"),
        ("  x Failed to build `numpy==1.0`", "numpy==1.0"),
        ("  Hash mismatch for `paint==1.0`", "paint==1.0"),
        ("  ╰─▶ Because paint was not found and you require paint==1.0, we can", "paint==1.0"),
        ("error: Failed to fetch: http://127.0.0.1:9/simple/humanize/", "humanize"),
        ("error: Failed to fetch: `http://127.0.0.1:9/simple/humanize/`", "humanize"),
        ("something else", None),
    ],
)
def test_the_package_that_uv_blames_is_found_in_its_words(line: str, package: str | None) -> None:
    assert blamed_package(["Resolved 3 packages", line]) == package
