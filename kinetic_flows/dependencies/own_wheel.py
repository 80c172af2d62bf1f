"""The wheel of this product as it is installed here, for images that run its flows."""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import zipfile
from collections.abc import Mapping
from importlib.metadata import Distribution, distribution
from pathlib import Path

from kinetic_flows.core.errors import PackagingError
from kinetic_flows.core.files import scratch_directory
from kinetic_flows.dependencies.local_wheels import build_wheel, normalized_wheel
from kinetic_flows.dependencies.uv import Uv

DISTRIBUTION = "kinetic-flows"
_LEFT_BY_INSTALLERS = frozenset({"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"})


def own_wheel(home: Path, environ: Mapping[str, str]) -> tuple[str, bytes]:
    """Return the file name and the content of this product's wheel.

    From a checkout it is built; an installed one is put together again from its files.

    Args:
        home: `KINETIC_HOME`, where it is built.
        environ: Variables for uv.

    Raises:
        LockError: It cannot be built.
        PackagingError: Its files cannot be found.
    """
    source = Path(__file__).parents[2]
    if not (source / "pyproject.toml").is_file():
        return wheel_of_installed(distribution(DISTRIBUTION))
    with scratch_directory(home) as scratch:
        path = build_wheel(Uv(cwd=source, environ=environ), source, scratch, sys.executable)
        return path.name, path.read_bytes()


def wheel_of_installed(installed: Distribution) -> tuple[str, bytes]:
    """Put the wheel of an installed package together from what its installer noted.

    See https://packaging.python.org/en/latest/specifications/binary-distribution-format/.

    Raises:
        PackagingError: It was not installed from a wheel, or files of it are missing.
    """
    name = installed.metadata["Name"].replace("-", "_")
    contents = dict(_contents(installed))
    info = next((path.partition("/")[0] for path in contents if ".dist-info/" in path), None)
    if info is None:
        raise PackagingError(
            f"{DISTRIBUTION} is not installed as a wheel",
            value=DISTRIBUTION,
            hint=f"install it with: pip install {DISTRIBUTION}",
        )
    record = [
        f"{path},sha256={_digest(data)},{len(data)}" for path, data in sorted(contents.items())
    ]
    contents[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as wheel:
        for path, data in contents.items():
            wheel.writestr(path, data)
    filename = f"{name}-{installed.version}-py3-none-any.whl"
    return filename, normalized_wheel(archive.getvalue())


def _contents(installed: Distribution) -> dict[str, bytes]:
    """Return the files that were in the wheel: no scripts, bytecode or installers' notes."""
    contents = {}
    for file in installed.files or []:
        path = file.as_posix()
        is_note = ".dist-info/" in path and file.name in _LEFT_BY_INSTALLERS
        if is_note or path.startswith("..") or "__pycache__" in path:
            continue
        try:
            contents[path] = file.read_binary()
        except OSError as error:
            raise PackagingError(
                f"a file of {DISTRIBUTION} is missing: {error}",
                value=path,
                hint=f"install it again: pip install --force-reinstall {DISTRIBUTION}",
            ) from error
    return contents


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
