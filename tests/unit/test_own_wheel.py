"""The wheel of an installed package, put together again from its files."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from kinetic_flows.dependencies.own_wheel import wheel_of_installed


def test_an_installed_package_becomes_the_wheel_it_came_from_and_installs_again(
    tmp_path: Path,
) -> None:
    installed = distribution("iniconfig")

    name, content = wheel_of_installed(installed)

    assert name == f"iniconfig-{installed.version}-py3-none-any.whl"
    assert wheel_of_installed(installed) == (name, content), "the same bytes each time"
    members = zipfile.ZipFile(io.BytesIO(content)).namelist()
    assert "iniconfig/__init__.py" in members
    assert not [member for member in members if "INSTALLER" in member or "__pycache__" in member]
    (tmp_path / name).write_bytes(content)
    uv = str(Path(sys.executable).with_name("uv"))
    target = tmp_path / "target"
    command = [uv, "pip", "install", "--quiet", "--offline", "--target", str(target)]
    subprocess.run([*command, str(tmp_path / name)], check=True)
    assert (target / "iniconfig" / "__init__.py").is_file()
