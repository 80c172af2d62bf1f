"""What a function imports and its environment lacks, told before anything is launched."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module, invalidate_caches
from importlib.metadata import packages_distributions
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetic_flows.code.imports import (
    Imported,
    all_imports,
    function_imports,
    module_imports,
    parse,
)
from kinetic_flows.code.root import find_package_root
from kinetic_flows.code.snapshot import take_snapshot
from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.accelerators.packages import pins_of
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.import_names import modules_of
from kinetic_flows.dependencies.missing_imports import (
    MissingImport,
    Shipped,
    describe,
    missing_imports,
)
from kinetic_flows.dependencies.providers import Environment, Installed, Listing
from kinetic_flows.images.bases import base_pythons, read_base_inputs
from shipping import write_project

Project = Callable[[dict[str, str]], Path]


def tree_of(source: str):
    tree = parse(dedent(source).encode())
    assert tree is not None
    return tree


def modules(items: list[Imported]) -> list[str]:
    return [item.module for item in items]


def test_only_imports_that_are_certain_count() -> None:
    tree = tree_of(
        """
        import a.b, c as d
        from e import f
        from . import g
        from ..h import i
        try:
            import optional
        except ImportError:
            optional = None
        if TYPE_CHECKING:
            import for_types
        if sys.platform == "darwin":
            import for_mac
        else:
            import for_others
        with suppress(ImportError):
            import suppressed
        for name in ():
            import never
        def later():
            import in_function
            sys.path.append("elsewhere")
        import logging
        logging.basicConfig(filename=os.path.join("pipelines", "log"))
        "run pip install first"
        import still_certain
        sys.path.insert(0, "vendored")
        import vendored
        """
    )
    assert module_imports(tree) == [
        Imported("a.b"),
        Imported("c"),
        Imported("e", 0, ("f",)),
        Imported("", 1, ("g",)),
        Imported("h", 2, ("i",)),
        Imported("logging"),
        Imported("still_certain"),
    ]


def test_what_a_function_imports_counts_until_it_does_anything_else() -> None:
    tree = tree_of(
        """
        class Trainer:
            def fit(self):
                "Fit it."
                import first
                limit = 3
                from second import thing
                if self.done:
                    return None
                import later

        def installs():
            import subprocess
            subprocess.run("pip install it", shell=True)
            import it

        def finds():
            import sys
            sys.path += ["vendored"]
            import vendored
        """
    )
    assert modules(function_imports(tree, "Trainer.fit")) == ["first", "second"]
    assert modules(function_imports(tree, "installs")) == ["subprocess"]
    assert modules(function_imports(tree, "finds")) == ["sys"]
    for unknown in ("gone", "Trainer.gone", "finds.inner", "<lambda>"):
        assert function_imports(tree, unknown) == []


def test_every_import_of_a_source_is_found_by_its_first_name() -> None:
    tree = tree_of("""
        import a.b
        from . import relative
        def later():
            try:
                from c.d import e
            except ImportError:
                pass
    """)
    assert all_imports(tree) == {"a", "c"}


@given(st.text(max_size=60))
def test_no_source_is_too_strange(source: str) -> None:
    tree = parse(source.encode(errors="surrogatepass"))
    if tree is not None:
        module_imports(tree)
        function_imports(tree, "f")
        all_imports(tree)


# Which packages have a module


def environment(*packages: str, installed: Listing | None = None) -> Environment:
    return Environment(packages, Installed(lambda: installed or {}))


@pytest.mark.parametrize(
    ("module", "packages"),
    [
        ("yaml", ["pyyaml"]),
        ("sklearn", ["scikit-learn"]),
        ("PIL", ["pillow-simd"]),
        ("cv2", ["opencv-contrib-python-headless"]),
        ("tensorflow", ["tensorflow-cpu"]),
        ("tensorflow", ["tensorflow-macos"]),
        ("some_thing", ["some-thing"]),
        ("ruamel", ["ruamel-yaml"]),
        ("google", ["numpy"]),
        ("json", []),
        ("__future__", []),
        ("winreg", []),
        ("setuptools", []),
        ("faiss", ["faiss-gpu-cu12"]),
        ("psycopg2", ["psycopg2-binary"]),
        ("keras", ["tf-keras-nightly"]),
        ("unheard_of", ["acme-toolkit"]),
        ("numpy", ["intel-numpy"]),
    ],
)
def test_there_is_no_alarm_where_a_package_has_it_or_may_have_it(
    module: str, packages: list[str]
) -> None:
    assert environment(*packages).missing(module) is None


@pytest.mark.parametrize(
    ("module", "packages", "package"),
    [
        ("keras", ["jax", "numpy", "cloudpickle"], "keras"),
        ("sklearn", ["numpy", "acme-toolkit"], "scikit-learn"),
        ("PIL", [], "pillow"),
        ("cv2", ["numpy"], "opencv-python-headless"),
        ("unheard_of", ["numpy", "nvidia-cublas-cu12"], None),
    ],
)
def test_what_no_package_can_have_is_missing(
    module: str, packages: list[str], package: str | None
) -> None:
    found = environment(*packages).missing(module)
    assert found is not None
    assert (found.module, found.package) == (module, package)


def test_what_is_installed_here_tells_which_package_has_a_module() -> None:
    here = {"gizmo": ["acme-gizmos"], "tools": ["acme-tools"]}
    assert environment("acme-gizmos", installed=here).missing("gizmo") is None
    assert environment("acme-tools", installed=here).missing("gizmo").package == "acme-gizmos"  # type: ignore[union-attr]
    assert environment("gizmos-nightly", installed=here).missing("gizmo") is None, "may stand in"


def test_a_module_that_is_found_here_and_is_no_packages_is_nobodys_dependency() -> None:
    assert environment(installed={}).missing("kinetic_flows") is None


def test_the_packages_of_this_python_are_read_for_real() -> None:
    assert Environment(["numpy"], Installed()).missing("yaml").package == "pyyaml"  # type: ignore[union-attr]
    assert Environment(["hypothesis"], Installed()).missing("_pytest").package == "pytest"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("module", "packages"),
    [(module, sorted(set(names))) for module, names in sorted(packages_distributions().items())],
)
def test_no_package_of_this_python_would_be_missed_where_it_is_not_installed(
    module: str, packages: list[str]
) -> None:
    for package in packages:
        assert environment(package).missing(module) is None


@pytest.mark.parametrize("category", ["cpu", "gpu", "tpu"])
def test_every_package_of_a_base_is_known_so_that_what_it_lacks_is_certain(
    category: Category,
) -> None:
    for python in base_pythons():
        lock = read_base_inputs(category, python).lock
        names = [pin.partition("==")[0] for pin in pins_of(lock)]
        assert [name for name in names if modules_of(name) is None] == []
        assert environment(*names).missing("keras") is not None
        assert environment(*names).missing("numpy") is None


# Through the project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    before = set(sys.modules)

    def write(files: dict[str, str]) -> Path:
        texts = {name: dedent(text) for name, text in files.items()}
        root = write_project(tmp_path / "project", texts)
        monkeypatch.syspath_prepend(str(root))
        invalidate_caches()
        return root

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def found(
    root: Path,
    home: Path,
    *packages: str,
    function: Callable[..., Any] | None = None,
    brought: frozenset[str] = frozenset(),
) -> list[MissingImport]:
    function = function or import_module("entry").main
    found_root = find_package_root(function, override=root, cwd=root, sys_path=[str(root)])
    snapshot = take_snapshot(root, cache_home=home)
    shipped = Shipped(function=function, root=found_root, snapshot=snapshot, modules=brought)
    return list(missing_imports(shipped, packages, home=home))


REACHING = {
    "entry.py": """
        import yaml, json
        import lib.deep
        from lib import side
        def main():
            import keras
    """,
    "lib/__init__.py": "import kinetic\n",
    "lib/deep.py": "from . import neighbour\nimport rich.console\n",
    "lib/neighbour.py": "import hypothesis\ntry:\n    import torch\nexcept ImportError: pass\n",
    "lib/side.py": "import lib.deep\n",
    "unreached.py": "import pandas\n",
}


def test_imports_are_followed_through_the_projects_own_modules(
    project: Project, tmp_path: Path
) -> None:
    root = project(REACHING)
    assert found(root, tmp_path / "home", "numpy", "rich") == [
        MissingImport("entry.py", "keras", "keras"),
        MissingImport("entry.py", "yaml", "pyyaml"),
        MissingImport("lib/neighbour.py", "hypothesis", "hypothesis"),
    ]
    everything = ("numpy", "rich", "keras", "pyyaml", "hypothesis")
    assert found(root, tmp_path / "home", *everything) == []


def test_a_call_that_changes_nothing_parses_nothing_and_a_change_is_seen(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, home = project(REACHING), tmp_path / "home"
    first = found(root, home, "rich")
    caches = sorted((home / "cache" / "imports").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("kinetic_flows.code.reach.parse", None)
        assert found(root, home, "rich") == first
    (root / "lib" / "side.py").write_text("import pexpect\n")
    assert MissingImport("lib/side.py", "pexpect", "pexpect") in found(root, home, "rich")
    for path in caches:
        path.write_text(json.dumps({"version": 1, "items": {"x": [1], "y": 2}}))
    assert MissingImport("lib/side.py", "pexpect", "pexpect") in found(root, home, "rich")


def test_what_the_project_may_have_itself_is_not_missing(project: Project, tmp_path: Path) -> None:
    root = project(
        {
            "entry.py": "def main():\n    import compiled, spaces.inner, vendored\n",
            "third_party/repo/vendored/__init__.py": "",
            "spaces/inner.py": "",
            "compiled.cpython-311-x86_64-linux-gnu.so": "",
        }
    )
    assert found(root, tmp_path / "home", "numpy") == []


def test_what_the_call_brings_along_needs_its_packages_too(
    project: Project, tmp_path: Path
) -> None:
    root = project(REACHING)
    brought = frozenset({"pexpect.exceptions", "json", "lib.side", "kinetic", "__main__"})
    only = found(root, tmp_path / "home", "rich", "keras", "pyyaml", "hypothesis", brought=brought)
    assert only == [MissingImport("", "pexpect", "pexpect")]
    source = DependencySource(kind="none", path=None, project_root=root)
    assert describe(only[0], source).startswith("the call needs pexpect, which is not among")


SCRIPT = """
    import sys, time
    import decorating_only
    import yaml as y
    from dateutil.parser import parse
    from hypothesis import given
    from lib import side

    def helper():
        return y.safe_load("1")

    class Model:
        def fit(self):
            return helper()

    def main(model=Model()):
        import keras
        return model.fit(), parse, side

    def unused():
        return given
"""


def test_of_a_script_only_what_its_function_uses_counts(project: Project, tmp_path: Path) -> None:
    root = project({**REACHING, "script.py": SCRIPT, "decorating_only.py": "import pexpect\n"})
    show = """
        import runpy, sys
        from pathlib import Path
        from kinetic_flows.dependencies.missing_imports import Shipped, missing_imports
        from kinetic_flows.code.payload import pack_call
        from kinetic_flows.code.root import find_package_root
        from kinetic_flows.code.snapshot import take_snapshot

        here, home = Path.cwd(), Path(sys.argv[1])
        function = main
        root = find_package_root(function, override=here, cwd=here, sys_path=[str(here)])
        payload = pack_call(function, (), {"model": Model()}, root=root)
        shipped = Shipped(
            function=function,
            root=root,
            snapshot=take_snapshot(root.path, cache_home=home),
            modules=payload.modules,
        )
        for item in missing_imports(shipped, ["cloudpickle"], home=home):
            print(*item)
    """
    (root / "script.py").write_text(dedent(SCRIPT) + dedent(show))
    done = subprocess.run(
        [sys.executable, "script.py", str(tmp_path / "home")],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "script.py keras keras",
        "script.py dateutil python-dateutil",
        "script.py yaml pyyaml",
        "lib/deep.py rich rich",
        "lib/neighbour.py hypothesis hypothesis",
    ]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            DependencySource(
                kind="requirements", path=Path("/p/requirements.txt"), project_root=Path("/p")
            ),
            "imports numpy, which is not among the dependencies (requirements.txt): add numpy",
        ),
        (
            DependencySource(kind="list", path=None, project_root=Path("/p")),
            "(requirements=): add numpy to the list",
        ),
        (
            DependencySource(kind="none", path=None, project_root=Path("/p")),
            "(there is no dependency file): write numpy into a requirements.txt",
        ),
    ],
)
def test_the_sentence_says_what_to_write_where(source: DependencySource, words: str) -> None:
    assert words in describe(MissingImport("train.py", "numpy", "numpy"), source)
    assert "the package that has ours" in describe(MissingImport("train.py", "ours", None), source)
