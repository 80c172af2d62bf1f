"""The project's own distributions in a run: what `importlib.metadata` finds there as here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PathDistribution
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from elsewhere import call_in_a_runner
from kinetic_flows.code.distributions import own_distributions
from kinetic_flows.code.root import PackageRoot
from kinetic_flows.core.job_reading import read_job
from kinetic_flows.dependencies.uv import find_uv
from runner_jobs import Job
from shipping import plain_root, ship, write_project

PYPROJECT = """
    [build-system]
    requires = ["setuptools"]
    build-backend = "setuptools.build_meta"

    [project]
    name = "My.Paint-box"
    version = "1.2.0-beta"
    description = "Paints"
    requires-python = ">=3.9"
    dependencies = ["numpy>=1", "tool @ git+https://joe:hunter2@example.com/tool.git"]

    [project.optional-dependencies]
    fast = ["orjson; python_version >= '3.9'", "plain"]

    [project.scripts]
    paint = "paintbox:main"

    [project.entry-points."paintbox.colours"]
    red = "paintbox:RED"
"""

ASK = """
    import os
    from importlib import metadata

    RED = "#f00"

    def main():
        found = metadata.distribution("my_paint.box")
        assert metadata.version("My.Paint-box") == found.version
        mine = [each for each in metadata.distributions() if each.name == "My.Paint-box"]
        points = metadata.entry_points(group="paintbox.colours")
        return {
            "version": found.version,
            "python": found.metadata["Requires-Python"],
            "requires": found.requires,
            "colours": {point.name: point.load() for point in points},
            "scripts": [p.value for p in metadata.entry_points(group="console_scripts")
                        if p.name == "paint"],
            "count": len(mine),
            "files": sorted(os.listdir()),
        }
"""

EXPECTED: dict[str, Any] = {
    "version": "1.2.0b0",
    "python": ">=3.9",
    "requires": [
        "numpy>=1",
        "tool @ git+https://example.com/tool.git",
        "orjson ; (python_version >= '3.9') and extra == 'fast'",
        "plain ; extra == 'fast'",
    ],
    "colours": {"red": "#f00"},
    "scripts": ["paintbox:main"],
    "count": 1,
}

BACKEND = """
    import os, zipfile

    FILES = {
        "METADATA": "Name: paintbox\\nVersion: 4.2\\nRequires-Dist: numpy\\n",
        "WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        "entry_points.txt": "[paintbox.colours]\\nred = paintbox:RED\\n",
        "RECORD": "",
    }

    def build_editable(directory, config_settings=None, metadata_directory=None):
        wheel = "paintbox-4.2-py3-none-any.whl"
        with zipfile.ZipFile(os.path.join(directory, wheel), "w") as archive:
            archive.writestr("paintbox.pth", os.path.abspath("FOLDER") + "\\n")
            for name, text in FILES.items():
                archive.writestr(f"paintbox-4.2.dist-info/{name}", text)
        return wheel
"""

MAIN = "import packing\nimport paintbox\npacking.pack(paintbox.main)\n"


@pytest.mark.parametrize("folder", ["", "src/"])
def test_what_pyproject_says_is_found_in_the_run(tmp_path: Path, folder: str) -> None:
    files = {"pyproject.toml": PYPROJECT, f"{folder}paintbox/__init__.py": ASK, "main.py": MAIN}
    env = {"PYTHONPATH": str(tmp_path / "project" / "src")}
    job, ended = call_in_a_runner(tmp_path, files, env=env)
    assert ended.exit_code == 0, ended.errors
    value = job.value()
    assert value.pop("files") == sorted({name.partition("/")[0] for name in files})
    assert value == EXPECTED


def test_it_is_found_by_processes_that_the_function_starts(tmp_path: Path) -> None:
    source = """
        import subprocess, sys
        def main():
            code = "from importlib.metadata import version; print(version('paint-box'))"
            return subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True
            ).stdout
    """
    files = {
        "pyproject.toml": "[project]\nname = 'paint-box'\nversion = '3'",
        "paintbox.py": source,
        "main.py": MAIN,
    }
    job, ended = call_in_a_runner(tmp_path, files)
    assert ended.exit_code == 0, ended.errors
    assert job.value() == "3\n"


@pytest.mark.parametrize("folder", ["", "src/"])
def test_what_is_installed_in_place_is_what_the_run_finds(tmp_path: Path, folder: str) -> None:
    """A version that only the build knows comes from the installation; nothing is built again."""
    files = {
        "pyproject.toml": """
            [build-system]
            requires = []
            build-backend = "backend"
            backend-path = ["."]

            [project]
            name = "paintbox"
            dynamic = ["version"]
        """,
        "backend.py": BACKEND.replace("FOLDER", folder),
        f"{folder}paintbox.py": """
            from importlib import metadata
            RED = 1
            def main():
                (red,) = metadata.entry_points(group="paintbox.colours")
                found = metadata.distribution("paintbox")
                return found.version, found.requires, red.load(), found.read_text("direct_url.json")
        """,
        "main.py": MAIN,
    }
    project, site = write_project(tmp_path / "project", files), tmp_path / "site"
    install = [find_uv(), "pip", "install", "--quiet", "--offline", "--no-deps"]
    into = ["--python", sys.executable, "--target", str(site)]
    subprocess.run([*install, *into, "--editable", str(project)], check=True)
    shutil.rmtree(project)  # the same files are written again at the same place
    # A `.pth` file is read in no directory of PYTHONPATH, so its target is named here.
    env = {"PYTHONPATH": f"{site}:{tmp_path / 'project' / folder}"}
    job, ended = call_in_a_runner(tmp_path, files, env=env)
    assert ended.exit_code == 0, ended.errors
    assert job.value() == ("4.2", ["numpy"], 1, None)
    assert str(tmp_path) not in json.dumps(job.code and job.code.distributions)


def test_what_is_installed_from_elsewhere_stays_the_environments(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", {"src/paintbox.py": ""})
    site = tmp_path / "site"
    _write_info(site, "other", "1", origin=tmp_path / "elsewhere")
    _write_info(site, "plain", "1", origin=None)
    assert _found(project, site) == {}


def test_a_workspaces_members_are_found_where_they_are_imported_from(tmp_path: Path) -> None:
    project = write_project(
        tmp_path / "project",
        {
            "pyproject.toml": "[tool.uv.workspace]\nmembers = ['members/*']",
            "members/one/pyproject.toml": "[project]\nname = 'one'\nversion = '1'",
            "members/one/src/one.py": "",
            "members/two/pyproject.toml": "[project]\nname = 'two'\nversion = '2'",
            "members/two/src/two.py": "",
        },
    )
    root = _root(project, ".", "members/one/src")
    assert list(own_distributions(root)) == ["one-1.dist-info"]


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"pyproject.toml": "{setuptools}version = {{attr = 'pkg.about.VERSION'}}"}, "5.1"),
        ({"pyproject.toml": "{setuptools}version = {{file = ['VERSION.txt']}}"}, "5.2"),
        ({"pyproject.toml": "{project}[tool.hatch.version]\npath = 'src/pkg/about.py'"}, "5.3"),
        ({"pyproject.toml": "{project}[build-system]\nbuild-backend = 'flit_core.x'"}, "5.4"),
        ({"pyproject.toml": "[tool.poetry]\nname = 'pkg'\nversion = '5.5'"}, "5.5"),
        ({"pyproject.toml": "{setuptools}version = {{file = '../VERSION.txt'}}"}, None),
        ({"pyproject.toml": "{setuptools}version = {{attr = 'pkg.about.COMPUTED'}}"}, None),
        ({"pyproject.toml": "{project}[tool.setuptools_scm]"}, None),
        ({"pyproject.toml": "[project]\nname = '../evil'\nversion = '1'"}, None),
        ({"pyproject.toml": "[project]\nname = 'pkg'\nversion = '1/../..'"}, None),
        ({"pyproject.toml": "[project]\nname = 3\nversion = 4"}, None),
        ({"pyproject.toml": "project = 'pkg'"}, None),
        ({"pyproject.toml": "[[project]]\nname = 'pkg'"}, None),
        ({"pyproject.toml": "[project\n"}, None),
        ({"pkg.egg-info/PKG-INFO": "Metadata-Version: 2.1\nName: pkg\nVersion: 5.6"}, "5.6"),
        ({"src/pkg.egg-info/PKG-INFO": "Metadata-Version: 2.1\nName: pkg\nVersion: 5.7"}, "5.7"),
        ({"pkg.egg-info/PKG-INFO": ""}, None),
        ({"pkg.egg-info": "a file"}, None),
    ],
)
def test_a_version_is_read_without_a_build_or_left_out(
    tmp_path: Path, files: dict[str, str], version: str | None
) -> None:
    project = "[project]\nname = 'pkg'\ndynamic = ['version']\n"
    setuptools = f"{project}[tool.setuptools.dynamic]\n"
    about = '__version__ = "5.3"\nVERSION: str = "5.1"\nCOMPUTED = ".".join("12")\n'
    filled = {
        name: text.format(project=project, setuptools=setuptools) for name, text in files.items()
    }
    folder = write_project(
        tmp_path / "project",
        {
            "VERSION.txt": "5.2\n",
            "src/pkg/about.py": about,
            "src/pkg/__init__.py": '__version__ = "5.4"',
            **filled,
        },
    )
    (tmp_path / "VERSION.txt").write_text("9")
    expected = [] if version is None else [f"pkg-{version}.dist-info"]
    assert list(own_distributions(plain_root(folder))) == expected


def test_a_project_named_like_a_package_that_it_uses_does_not_speak_for_it(tmp_path: Path) -> None:
    text = "[project]\nname = 'cloudpickle'\nversion = '0.1'"
    project = write_project(tmp_path / "project", {"pyproject.toml": text, "main.py": ""})
    assert own_distributions(plain_root(project)) == {}
    write_project(project, {"src/cloudpickle/__init__.py": ""})
    assert list(own_distributions(plain_root(project))) == ["cloudpickle-0.1.dist-info"]


def test_a_root_that_is_the_sources_directory_has_the_project_above_it(tmp_path: Path) -> None:
    text = "[project]\nname = 'paint'\nversion = '1'"
    project = write_project(tmp_path / "project", {"pyproject.toml": text, "src/paint.py": ""})
    assert list(own_distributions(plain_root(project / "src"))) == ["paint-1.dist-info"]


def test_where_only_imported_files_ship_the_directory_around_them_is_no_project(
    tmp_path: Path,
) -> None:
    text = "[project]\nname = '{}'\nversion = '1'"
    home = {"pyproject.toml": text.format("home"), "work/pyproject.toml": text.format("paint")}
    root = _root(write_project(tmp_path / "home", {**home, "work/src/paint.py": ""}), "work/src")
    found = own_distributions(replace(root, no_project="a home directory"))
    assert list(found) == ["paint-1.dist-info"]


POINT = st.text(alphabet="ab.:=[]# \n\t\x00é", max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(points={"]": {":": ""}})
@given(points=st.dictionaries(POINT, st.dictionaries(POINT, POINT, max_size=3), max_size=3))
def test_no_entry_point_hides_those_of_other_distributions(
    tmp_path: Path, points: dict[str, dict[str, str]]
) -> None:
    """What is read of one distribution that cannot be read ends every look for entry points."""
    document = {"project": {"name": "paint", "version": "1", "entry-points": points}}
    (tmp_path / "pyproject.toml").write_text(tomli_w.dumps(document))
    ((_, files),) = own_distributions(plain_root(tmp_path)).items()
    info = tmp_path / "paint-1.dist-info"
    info.mkdir(exist_ok=True)
    (info / "entry_points.txt").write_text(files.get("entry_points.txt", ""))
    said = {group: given for group, given in points.items() if given}
    for point in PathDistribution(info).entry_points:
        assert said[point.group][point.name].strip() == point.value


@pytest.mark.parametrize(
    "said", ["", "[]", "1", '{"dir_info": {}}', '{"dir_info": {}, "url": 1}', '{"url": "file:///"}']
)
def test_a_damaged_installation_is_no_distribution_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    project, site = write_project(tmp_path / "project", {"main.py": ""}), tmp_path / "site"
    _write_info(site, "paint", "1", origin=None)
    (site / "paint-1.dist-info" / "direct_url.json").write_text(said)
    monkeypatch.syspath_prepend(str(site))
    assert own_distributions(plain_root(project)) == {}


def test_the_shipped_project_comes_before_the_same_name_in_the_environment(tmp_path: Path) -> None:
    source = "from importlib import metadata\ndef main():\n return metadata.version('cloudpickle')"
    job = Job(tmp_path / "store", source=source)
    info = {"METADATA": "Metadata-Version: 2.1\nName: cloudpickle\nVersion: 0.0.1\n"}
    job.code_changes = {"distributions": {"cloudpickle-0.0.1.dist-info": info}}
    assert job.run().exit_code == 0
    assert job.value() == "0.0.1"


@pytest.mark.parametrize("name", ["../x.dist-info", "paint", "a/b.dist-info"])
def test_metadata_is_written_nowhere_else(tmp_path: Path, name: str) -> None:
    job = Job(tmp_path / "store", source="def main():\n return 1")
    job.code_changes = {"distributions": {name: {"METADATA": "Name: x"}}}
    ended = job.run()
    assert ended.exit_code == 44
    assert "is no distribution's metadata" in ended.output + ended.errors


def test_an_unchanged_project_is_described_by_the_same_job(tmp_path: Path) -> None:
    project = write_project(tmp_path / "project", {"pyproject.toml": PYPROJECT})
    first, second = (ship(project, tmp_path / "store")[1] for _ in range(2))
    assert first == second
    assert list(first.distributions) == ["my_paint_box-1.2.0b0.dist-info"]


def test_jobs_of_earlier_clients_have_none(tmp_path: Path) -> None:
    job = Job(tmp_path / "store", source="def main():\n return 1")
    job.write()
    document = json.loads(job.job_path.read_bytes())
    del document["code"]["distributions"]
    code = read_job(json.dumps(document).encode()).template.code
    assert code is not None
    assert code.distributions == {}


def _root(project: Path, *sys_path: str) -> PackageRoot:
    return replace(plain_root(project), sys_path=sys_path)


def _found(project: Path, site: Path) -> dict[str, dict[str, str]]:
    """Return what a process finds in whose environment a directory is the site-packages."""
    code = f"""
        import json, site, sys
        sys.path.append({str(Path(__file__).parent.parent)!r})
        site.addsitedir({str(site)!r})
        from pathlib import Path
        from dataclasses import replace
        from kinetic_flows.code.distributions import own_distributions
        from shipping import plain_root
        root = replace(plain_root(Path({str(project)!r})), sys_path=("src",))
        print(json.dumps(own_distributions(root)))
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=True
    )
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


def _write_info(site: Path, name: str, version: str, *, origin: Path | None) -> None:
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(text)
    if origin:
        said = {"url": origin.as_uri(), "dir_info": {"editable": True}}
        (info / "direct_url.json").write_text(json.dumps(said))
