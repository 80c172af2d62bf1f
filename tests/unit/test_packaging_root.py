"""The package root is where the function's modules import under their own names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from kinetic_flows.code.root import find_package_root
from kinetic_flows.core.errors import PackageRootError
from shipping import CHECKOUT, run_python, write_project

PROBE = """
    import json, os, pathlib, sys
    from kinetic_flows.code.root import find_package_root

    def probe(function):
        given = os.environ.get("OVERRIDE")
        root = find_package_root(
            function,
            override=pathlib.Path(given) if given else None,
            cwd=pathlib.Path.cwd(),
            sys_path=sys.path,
        )
        print(json.dumps({name: str(value) if isinstance(value, pathlib.Path) else value
                          for name, value in vars(root).items()}))
"""

MAIN = """
    from probe import probe

    def train(): ...

    probe(train)
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A directory with the probe, on the path but no part of any project."""
    return write_project(tmp_path / "tools", {"probe.py": PROBE})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return tmp_path / "home" / "project"


def probe(tools: Path, cwd: Path, *arguments: str, **more: Any) -> dict[str, Any]:
    env = {"PYTHONPATH": str(tools), **more.pop("env", {})}
    found: dict[str, Any] = json.loads(run_python(arguments, cwd=cwd, env=env, **more))
    return found


def test_a_script_beside_requirements_ships_its_directory(tools: Path, project: Path) -> None:
    write_project(project, {"main.py": MAIN, "requirements.txt": ""})
    found = probe(tools, project, "main.py")
    assert found["path"] == str(project)
    assert found["entry_file"] == found["main_file"] == str(project / "main.py")
    assert found["sys_path"] == ["."]
    assert found["working_directory"] == "."
    assert "requirements.txt" in found["explanation"]


def test_a_script_without_a_project_ships_its_own_directory(tools: Path, project: Path) -> None:
    write_project(project, {"scripts/main.py": MAIN})
    found = probe(tools, project, "scripts/main.py")
    assert found["path"] == str(project / "scripts")
    assert found["working_directory"] == "."


@pytest.mark.parametrize(
    "marker", ["pyproject.toml", "requirements.txt", "setup.py", "setup.cfg", ".git/HEAD"]
)
def test_the_root_is_the_nearest_marker_above(tools: Path, project: Path, marker: str) -> None:
    write_project(project, {"a/b/main.py": MAIN, marker: "", "../pyproject.toml": ""})
    found = probe(tools, project / "a", "b/main.py")
    assert found["path"] == str(project)
    assert found["sys_path"] == ["a/b"]
    assert found["working_directory"] == "a"


def test_a_script_inside_a_package_ships_what_holds_the_package(tools: Path, project: Path) -> None:
    files = {"pkg/__init__.py": "", "pkg/sub/__init__.py": "", "pkg/sub/main.py": MAIN}
    write_project(project, files)
    found = probe(tools, project, "pkg/sub/main.py")
    assert found["path"] == str(project)
    assert found["sys_path"] == ["pkg/sub", "."]


def test_a_module_run_with_m_keeps_its_package_importable(tools: Path, project: Path) -> None:
    write_project(project, {"pkg/__init__.py": "", "pkg/mod.py": MAIN})
    found = probe(tools, project, "-m", "pkg.mod")
    assert found["path"] == str(project)
    assert found["sys_path"] == ["."]
    assert found["entry_file"] == str(project / "pkg" / "mod.py")


def test_a_package_run_with_m_ships_what_holds_it(tools: Path, project: Path) -> None:
    write_project(project, {"pkg/__init__.py": "", "pkg/__main__.py": MAIN})
    found = probe(tools, project, "-m", "pkg")
    assert found["path"] == str(project)
    assert found["entry_file"] == str(project / "pkg" / "__main__.py")


def test_a_directory_run_as_a_program_ships(tools: Path, project: Path) -> None:
    write_project(project, {"app/__main__.py": MAIN, "app/lib.py": ""})
    found = probe(tools, project, "app")
    assert found["path"] == str(project / "app")
    assert found["sys_path"] == ["."]


def test_a_namespace_package_keeps_its_name(tools: Path, project: Path) -> None:
    write_project(project, {"space/team/mod.py": MAIN})
    found = probe(tools, project, "-m", "space.team.mod")
    assert found["path"] == str(project)


def test_an_imported_module_of_a_namespace_package_keeps_its_name(
    tools: Path, project: Path
) -> None:
    files = {"space/team/mod.py": "def train(): ...", "main.py": IMPORTING}
    write_project(project, files)
    found = probe(tools, project, "main.py")
    assert found["path"] == str(project)
    assert found["entry_file"] == str(project / "space/team/mod.py")
    assert found["main_file"] == str(project / "main.py")


IMPORTING = """
    from probe import probe
    from space.team.mod import train

    probe(train)
"""


def test_a_src_layout_is_found_on_sys_path(tools: Path, project: Path) -> None:
    files = {
        "pyproject.toml": "",
        "src/pkg/__init__.py": "",
        "src/pkg/core.py": "def train(): ...",
        "scripts/main.py": "from probe import probe\nfrom pkg.core import train\nprobe(train)",
    }
    write_project(project, files)
    path = f"{tools}:{project / 'src'}"
    found = probe(tools, project, "scripts/main.py", env={"PYTHONPATH": path})
    assert found["path"] == str(project)
    assert found["sys_path"] == ["scripts", "src"]


def test_a_src_layout_found_by_an_import_hook_is_importable_too(tools: Path, project: Path) -> None:
    hook = """
        import importlib.util, pathlib, sys
        from importlib.abc import MetaPathFinder

        class Editable(MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                file = pathlib.Path(__file__).parent / "src" / name / "__init__.py"
                if file.exists():
                    return importlib.util.spec_from_file_location(name, file)

        sys.meta_path.append(Editable())
        from probe import probe
        from pkg import train
        probe(train)
    """
    files = {"setup.py": "", "src/pkg/__init__.py": "def train(): ...", "main.py": hook}
    write_project(project, files)
    assert probe(tools, project, "main.py")["sys_path"] == [".", "src"]


def test_installed_packages_under_the_root_stay_off_the_path(tools: Path, project: Path) -> None:
    packages = project / ".venv/lib/python3.11/site-packages"
    write_project(project, {"main.py": MAIN, "requirements.txt": ""})
    packages.mkdir(parents=True)
    found = probe(tools, project, "main.py", env={"PYTHONPATH": f"{tools}:{packages}"})
    assert found["sys_path"] == ["."]


def test_code_given_with_c_ships_the_working_directory(tools: Path, project: Path) -> None:
    write_project(project, {"requirements.txt": "", "nested/keep": ""})
    code = "from probe import probe\ndef train(): ...\nprobe(train)"
    found = probe(tools, project / "nested", "-c", code)
    assert found["path"] == str(project)
    assert found["entry_file"] is None
    assert found["sys_path"] == ["nested"]
    assert found["working_directory"] == "nested"


def test_an_interactive_session_ships_the_working_directory(tools: Path, project: Path) -> None:
    project.mkdir(parents=True)
    code = "from probe import probe\ndef train(): ...\n\nprobe(train)\n"
    found = probe(tools, project, "-i", "-q", stdin=code)
    assert found["path"] == str(project)
    assert found["entry_file"] is None
    assert "working directory" in found["explanation"]


def test_the_home_directory_is_no_project_for_what_lies_deeper(tools: Path, project: Path) -> None:
    write_project(project, {"main.py": MAIN, "../requirements.txt": "", "../.git/HEAD": ""})
    found = probe(tools, project, "main.py", env={"HOME": str(project.parent)})
    assert found["path"] == str(project)


def test_a_project_reached_through_a_link_has_one_root(tools: Path, project: Path) -> None:
    write_project(project, {"main.py": MAIN, "requirements.txt": ""})
    link = project.with_name("link")
    link.symlink_to(project)
    found = probe(tools, link, str(link / "main.py"))
    assert found["path"] == str(project)
    assert found["sys_path"] == ["."]
    assert found["working_directory"] == "."


def test_the_override_is_the_root(tools: Path, project: Path) -> None:
    write_project(project, {"main.py": MAIN, "requirements.txt": ""})
    found = probe(tools, project, "main.py", env={"OVERRIDE": ".."})
    assert found["path"] == str(project.parent)
    assert found["sys_path"] == ["project"]
    assert "KINETIC_PACKAGE_ROOT" in found["explanation"]


@pytest.mark.parametrize(
    ("override", "problem"),
    [("nowhere", "not a directory"), ("other", "does not hold"), ("/", "whole file system")],
)
def test_an_override_that_cannot_be_is_refused(
    tools: Path, project: Path, override: str, problem: str
) -> None:
    write_project(project, {"main.py": MAIN, "other/file": ""})
    with pytest.raises(AssertionError, match=problem):
        probe(tools, project, "main.py", env={"OVERRIDE": override})


def test_an_override_that_cuts_a_package_is_refused(tools: Path, project: Path) -> None:
    files = {"pkg/__init__.py": "", "pkg/mod.py": "def train(): ..."}
    write_project(project, files)
    code = "from probe import probe\nfrom pkg.mod import train\nprobe(train)"
    with pytest.raises(AssertionError, match=r"from where pkg\.mod is imported"):
        probe(tools, project, "-c", code, env={"OVERRIDE": "pkg"})


def test_the_error_of_an_override_names_its_value_and_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(PackageRootError) as caught:
        find_package_root(print, override=tmp_path / "gone", cwd=tmp_path, sys_path=sys.path)
    assert caught.value.value == str(tmp_path / "gone")
    assert "unset it" in str(caught.value)


def test_a_function_of_an_installed_package_ships_the_caller(tools: Path, project: Path) -> None:
    main = "from probe import probe\nfrom cloudpickle import dumps\nprobe(dumps)"
    write_project(project, {"main.py": main})
    found = probe(tools, project, "main.py")
    assert found["path"] == str(project)
    assert found["module_name"] == "cloudpickle.cloudpickle"


def test_what_a_partial_or_a_method_calls_is_what_counts(tools: Path, project: Path) -> None:
    main = """
        import functools
        from probe import probe
        from lib.core import Model, train

        probe(functools.partial(train, 1))
        probe(Model().fit)
        probe(Model())
    """
    core = """
        def train(x): ...

        class Model:
            def fit(self): ...
            def __call__(self): ...
    """
    write_project(project, {"app/main.py": main, "libs/lib/core.py": core, "libs/setup.py": ""})
    env = {"PYTHONPATH": f"{tools}:{project / 'libs'}"}
    printed = run_python(["app/main.py"], cwd=project, env=env).splitlines()
    assert [json.loads(line)["path"] for line in printed] == [str(project / "libs")] * 3


@pytest.mark.parametrize("place", ["", "src", "src/app"])
def test_a_project_below_a_virtual_environment_is_importable(tools: Path, place: str) -> None:
    environment = tools.parent / "env"
    venv.create(environment, symlinks=True, with_pip=False)
    project = write_project(environment / place, {"main.py": IMPORTING})
    write_project(project, {"space/team/mod.py": "def train(): ..."})
    packages = Path(cloudpickle.__file__).parent.parent
    python = str(environment / "bin" / "python")
    done = subprocess.run(
        [python, "main.py"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": f"{tools}:{CHECKOUT}:{packages}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["path"] == str(project)
    assert found["sys_path"] == ["."]


def test_a_project_in_a_virtual_environment_does_not_become_the_project_around_it(
    tools: Path, project: Path
) -> None:
    files = {"pyproject.toml": "", "env/pyvenv.cfg": "", "env/src/main.py": MAIN}
    write_project(project, files)
    assert probe(tools, project, "env/src/main.py")["path"] == str(project / "env" / "src")


def test_what_stays_in_an_environment_of_the_project_is_not_on_the_path(
    tools: Path, project: Path
) -> None:
    write_project(project, {"main.py": MAIN, "env/pyvenv.cfg": "", "env/src/lib/lib.py": ""})
    path = f"{tools}:{project / 'env/src/lib'}"
    assert probe(tools, project, "main.py", env={"PYTHONPATH": path})["sys_path"] == ["."]


def test_what_comes_after_the_standard_library_comes_after_it_in_a_run(
    tools: Path, project: Path
) -> None:
    main = """
        import sys
        sys.path.insert(1, "first")
        sys.path.append("last")
        sys.path.append("first")
        from probe import probe
        def train(): ...
        probe(train)
    """
    write_project(project, {"main.py": main, "first/a.py": "", "last/queue.py": ""})
    found = probe(tools, project, "main.py")
    assert found["sys_path"] == [".", "first", "last"]
    assert found["late"] == ["last"]


def test_what_python_skips_on_its_path_is_skipped(tools: Path, project: Path) -> None:
    main = """
        import os, pathlib, sys
        os.symlink("loop", "loop")
        odd = [None, b"bytes", pathlib.Path("lib"), 3, "x" * 5000, "loop/x", "gone", "~"]
        sys.path += [*odd, "lib"]
        from probe import probe
        def train(): ...
        probe(train)
    """
    write_project(project, {"main.py": main, "lib/a.py": ""})
    assert probe(tools, project, "main.py")["sys_path"] == [".", "lib"]


GONE = """
    import os
    os.mkdir("here")
    os.chdir("here")
    os.rmdir(os.getcwd())
    import kinetic

    @kinetic.run(requirements=[])
    def train(): ...

    for call in (train, train.plan, train.submit):
        try:
            call()
        except kinetic.errors.PackageRootError as error:
            print(repr(str(error)))
"""


def test_a_working_directory_that_was_removed_is_an_error_with_the_remedy(project: Path) -> None:
    write_project(project, {"main.py": GONE})
    printed = run_python([str(project / "main.py")], cwd=project).splitlines()
    assert len(printed) == 3
    assert all("the working directory was removed" in line for line in printed)
    assert all("os.chdir" in line for line in printed)


def test_finding_the_root_needs_no_heavy_import(tmp_path: Path) -> None:
    code = "import sys, kinetic_flows.code.root; print('prefect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


LATE_IMPORTS = """
import gc, itertools, sys
from types import ModuleType
from kinetic_flows.code.modules import loaded_bases

sys.modules.update({f"many_{number}": ModuleType("m") for number in range(5000)})
numbers = itertools.count()
late = lambda phase, info: sys.modules.update({f"late_{next(numbers)}": ModuleType("m")})
gc.callbacks.append(late)
gc.set_threshold(20)
loaded_bases()
print("collected", next(numbers) > 0)
"""


def test_modules_may_be_imported_while_the_loaded_ones_are_gone_through(tmp_path: Path) -> None:
    # As what the garbage collector finalizes may do, in the midst of anything.
    assert run_python(["-c", LATE_IMPORTS], cwd=tmp_path) == "collected True\n"
