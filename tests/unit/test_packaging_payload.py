"""Calls travel: what is importable by reference, `__main__` by value, and they run elsewhere."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import pickle
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from elsewhere import Ran, run_elsewhere
from kinetic_flows.code.payload import pack_call, require_same_python
from kinetic_flows.core.errors import ConfigurationError, UnpicklableError
from shipping import plain_root, run_python, write_project

FROM_MAIN = {
    "requirements.txt": "",
    "lib.py": """
        import enum, threading

        LOCK = threading.Lock()

        class Color(enum.Enum):
            RED = 1

        class Model:
            def __init__(self, size):
                self.size = size

        def make(size):
            return Model(size)

        def is_model(value):
            with LOCK:
                return isinstance(value, Model)
    """,
    "main.py": """
        import dataclasses, enum, functools, os, typing
        import cloudpickle
        import lib
        from client import case

        OFFSET = 100

        def plain(x, y=1):
            return x + y + OFFSET

        def factorial(n):
            return 1 if n < 2 else n * factorial(n - 1)

        def closure():
            here = 5
            def inner(x):
                return x + here
            return inner

        class Shade(enum.Enum):
            DARK = "dark"

        @dataclasses.dataclass
        class Config:
            lr: float
            shade: Shade = Shade.DARK

        class Point(typing.NamedTuple):
            x: int
            y: int

        T = typing.TypeVar("T")

        class Box(typing.Generic[T]):
            def __init__(self, item: T):
                self.item = item

        class Trainer:
            def __init__(self, base):
                self.base = base
            def fit(self, x):
                return self.base + x
            def __call__(self, x):
                return self.base * x

        class Child(Trainer):
            def fit(self, x):
                return super().fit(x) + 1000

        async def asynchronous(x):
            return x

        def run_async(function, x):
            import asyncio
            return asyncio.run(function(x))

        loop = [1]
        loop.append(loop)
        parent = {"name": "parent"}
        parent["child"] = {"parent": parent}

        if __name__ == "__main__":
            case("plain", plain, 1, y=2)
            case("recursive function", factorial, 5)
            case("closure", closure(), 1)
            case("lambda", lambda x: x * OFFSET, 3)
            case("partial", functools.partial(plain, 1), y=5)
            case("bound method", Trainer(3).fit, 4)
            case("callable instance", Trainer(3), 4)
            case("inherited method", Child(3).fit, 4)
            case("plain method with self", Trainer.fit, Trainer(3), 4)
            case("dataclass", lambda c: (c.lr, c.shade is Shade.DARK), Config(0.1))
            case("named tuple", lambda p: p.x + p.y, Point(1, 2))
            case("enum key", lambda d: d[Shade.DARK], {Shade.DARK: "found"})
            case("generic", lambda b: (b.item, Box[int](2).item), Box[str]("a"))
            case("self-referential list", lambda v: v[1] is v, loop)
            case("recursive dict", lambda v: v["child"]["parent"] is v, parent)
            case("shared argument", lambda a, b: a is b, loop, loop)
            case("library class by reference", lib.is_model, lib.Model(1))
            case("library class in main", lambda v: isinstance(v, lib.Model), lib.Model(1))
            case("library enum identity", lambda c: c is lib.Color.RED, lib.Color.RED)
            case("library lock", lambda: type(lib.LOCK).__name__)
            case("library module", lambda: lib.make(3).size)
            case("third party", cloudpickle.dumps, 1)
            case("coroutine function", run_async, asynchronous, 7)
            case("isinstance in main", lambda v: isinstance(v, Config), Config(1.0))
            case("type as argument", lambda t: t(5).base, Trainer)
            case("keyword arguments", lambda **k: sorted(k.items()), a=1, b=2)
    """,
}

EXPECTED_FROM_MAIN = {
    "plain": "103",
    "recursive function": "120",
    "closure": "6",
    "lambda": "300",
    "partial": "106",
    "bound method": "7",
    "callable instance": "12",
    "inherited method": "1007",
    "plain method with self": "7",
    "dataclass": "(0.1, True)",
    "named tuple": "3",
    "enum key": "'found'",
    "generic": "('a', 2)",
    "self-referential list": "True",
    "recursive dict": "True",
    "shared argument": "True",
    "library class by reference": "True",
    "library class in main": "True",
    "library enum identity": "True",
    "library lock": "'lock'",
    "library module": "3",
    "third party": repr(pickle.dumps(1, protocol=5)),
    "coroutine function": "7",
    "isinstance in main": "True",
    "type as argument": "5",
    "keyword arguments": "[('a', 1), ('b', 2)]",
}


@pytest.fixture(scope="module")
def from_main(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        return run_elsewhere(tmp_path_factory.mktemp("main"), FROM_MAIN)


@pytest.mark.parametrize("name", EXPECTED_FROM_MAIN)
def test_a_call_from_a_script_works_elsewhere(from_main: Ran, name: str) -> None:
    assert from_main[name] == EXPECTED_FROM_MAIN[name]
    assert from_main.cases[name]["warnings"] == ()


def test_functions_of_importable_modules_go_by_name(from_main: Ran) -> None:
    references = {name: reference for name, (reference, _) in from_main.results.items()}
    assert references["library class by reference"] == {"module": "lib", "qualname": "is_model"}
    assert references["third party"] == {
        "module": "cloudpickle.cloudpickle",
        "qualname": "dumps",
    }
    assert references["plain"] is None


def test_a_src_layout_a_package_and_a_namespace_all_go_by_name(tmp_path: Path) -> None:
    main = """
        from client import case
        from pkg.core import train
        from space.team.mod import fit

        case("src", train, 1)
        case("namespace", fit, 1)
        case("method", __import__("pkg.core").core.Model.fit, __import__("pkg.core").core.Model())
    """
    core = """
        from .sibling import ONE
        class Model:
            def fit(self):
                return ONE
        def train(x):
            return x + ONE
    """
    files = {
        "pyproject.toml": "",
        "main.py": main,
        "src/pkg/__init__.py": "",
        "src/pkg/sibling.py": "ONE = 1",
        "src/pkg/core.py": core,
        "space/team/mod.py": "def fit(x):\n    return __name__",
    }
    ran = run_elsewhere(tmp_path, files, env={"PYTHONPATH": str(tmp_path / "project" / "src")})
    assert (ran["src"], ran["namespace"], ran["method"]) == ("2", "'space.team.mod'", "1")
    assert all(reference for reference, _ in ran.results.values())


def test_a_module_run_with_m_goes_by_value_and_keeps_relative_imports(tmp_path: Path) -> None:
    mod = """
        from client import case
        from .sibling import Model

        class Local: ...

        def train(value):
            from . import sibling
            return isinstance(value, sibling.Model), type(Local()).__name__

        case("train", train, Model())
    """
    files = {"pkg/__init__.py": "", "pkg/sibling.py": "class Model: ...", "pkg/mod.py": mod}
    ran = run_elsewhere(tmp_path, files, "-m", "pkg.mod")
    assert ran["train"] == "(True, 'Local')"


def test_a_cell_without_a_file_goes_by_value(tmp_path: Path) -> None:
    code = (
        "from client import case\nimport lib\n"
        "def train(x): return lib.double(x)\n"
        "case('cell', train, 2)\n"
    )
    files = {"requirements.txt": "", "lib.py": "def double(x):\n    return 2 * x"}
    ran = run_elsewhere(tmp_path, files, "-c", code)
    assert ran["cell"] == "4"


DECORATED = {
    "requirements.txt": "",
    "lib.py": """
        import kinetic

        @kinetic.run(accelerator="cpu")
        def train(x):
            return helper(x) + 1

        @kinetic.run
        def helper(x):
            return x * 2

        class Trainer:
            base = 10
            @kinetic.run
            def fit(self, x):
                return self.base + x
    """,
    "main.py": """
        import functools
        import kinetic
        import lib
        from client import case

        @kinetic.run(accelerator="cpu")
        def inner(x):
            return x + 1

        @kinetic.run(accelerator="cpu")
        def outer(x):
            return inner(x) + lib.train(x)

        class Local:
            @kinetic.run
            def fit(self, x):
                return self.twice(x) + 1
            @kinetic.run
            def twice(self, x):
                return 2 * x

        case("importable", lib.train, 1)
        case("decorated method in main", Local.fit, Local(), 4)
        case("main calls decorated ones", outer, 1)
        case("decorated method", lib.Trainer.fit, lib.Trainer(), 5)
        case("decorated argument", lambda f, x: f(x), inner, 1)
        case("bound method", lambda f, x: (type(f).__name__, f(x)), Local().fit, 4)
        case("bound method of a module", lambda f, x: f(x), lib.Trainer().fit, 4)
        case("importable decorated argument", lambda f, x: (type(f).__name__, f(x)), lib.train, 1)
        case("plain form of a decorated one", functools.partial(lib.train.fn, 1))
    """,
}


def test_a_decorated_function_is_the_plain_one_in_a_run(tmp_path: Path) -> None:
    ran = run_elsewhere(tmp_path, DECORATED)
    assert {name: text for name, (_, text) in ran.results.items()} == {
        "importable": "3",
        "decorated method in main": "9",
        "main calls decorated ones": "5",
        "decorated method": "15",
        "decorated argument": "2",
        "bound method": "('method', 9)",
        "bound method of a module": "14",
        "importable decorated argument": "('function', 3)",
        "plain form of a decorated one": "3",
    }
    assert ran.results["importable"][0] == {"module": "lib", "qualname": "train"}
    assert ran.results["decorated method"][0] == {"module": "lib", "qualname": "Trainer.fit"}


BESIDE_A_LOCK = {
    "requirements.txt": "",
    "decorators.py": """
        import functools, threading

        CALLS = threading.Lock()

        def logged(function):
            @functools.wraps(function)
            def wrapper(*args, **kwargs):
                with CALLS:
                    return "logged", function(*args, **kwargs)
            return wrapper

        def nameless(function):
            return lambda *args: ("nameless", function(*args))
    """,
    "lib.py": """
        import functools, threading
        import kinetic
        from decorators import logged, nameless

        LOCK = threading.Lock()

        class Model:
            def fit(self, x):
                with LOCK:
                    return x + 1

        def helper(x):
            return isinstance(x, Model)

        @logged
        @kinetic.run
        def train(x):
            with LOCK:
                return helper(x)

        @nameless
        @kinetic.run
        def fit(x):
            with LOCK:
                return helper(x)

        def make(extra):
            @kinetic.run
            def inner(x):
                with LOCK:
                    return helper(x), extra, __name__
            return inner

        def make_class():
            class Local(Model):
                def fit(self, x):
                    return super().fit(x), LOCK.locked()
            return Local

        shared = make("decorated")
        anonymous = kinetic.run(lambda x: helper(x))
        partial = functools.partial(make("partial").fn, extra := Model())
    """,
    "main.py": """
        import lib
        from client import case

        is_own = lambda made: made.__globals__ is vars(lib)
        case("decorator above", lib.train.__wrapped__.fn, lib.Model())
        case("whole stack", lambda f, x: f(x), lib.train, lib.Model())
        case("nameless decorator", lib.fit.__closure__[0].cell_contents.fn, lib.Model())
        case("factory", lib.make("x").fn, lib.Model())
        case("factory under another name", lib.shared.fn, lib.Model())
        case("lambda", lib.anonymous.fn, lib.Model())
        case("partial", lib.partial)
        case("local class", lambda made: made.fit(1), lib.make_class()())
        case("variables", is_own, lib.make("x").fn)
    """,
}


def test_a_function_without_a_name_uses_the_variables_of_its_module_in_the_run(
    tmp_path: Path,
) -> None:
    ran = run_elsewhere(tmp_path, BESIDE_A_LOCK)
    assert {name: text for name, (_, text) in ran.results.items()} == {
        "decorator above": "True",
        "whole stack": "('logged', True)",
        "nameless decorator": "True",
        "factory": "(True, 'x', 'lib')",
        "factory under another name": "(True, 'decorated', 'lib')",
        "lambda": "True",
        "partial": "(True, 'partial', 'lib')",
        "local class": "(2, False)",
        "variables": "True",
    }


def test_a_module_that_no_run_can_import_goes_by_value_with_a_warning(tmp_path: Path) -> None:
    elsewhere = {
        "shared_tools.py": """
            import kinetic
            import more_tools
            class Tool:
                def use(self, x):
                    return more_tools.double(x)
            @kinetic.run
            def decorated(x):
                return inner(x) + 1
            @kinetic.run
            def inner(x):
                return 10 * x
        """,
        "more_tools.py": "def double(x):\n    return 2 * x",
    }
    write_project(tmp_path / "elsewhere", elsewhere)
    main = """
        import cloudpickle
        from client import case
        from shared_tools import Tool, decorated
        case("by value", lambda tool: tool.use(4), Tool())
        case("its method", lambda: Tool().use(5))
        case("decorated", lambda f, x: (type(f).__name__, f(x)), decorated, 2)
        assert not cloudpickle.list_registry_pickle_by_value()
    """
    files = {"requirements.txt": "", "main.py": main}
    env = {"PYTHONPATH": str(tmp_path / "elsewhere")}
    ran = run_elsewhere(tmp_path, files, env={**env, "OVERRIDE": str(tmp_path / "project")})
    assert (ran["by value"], ran["its method"]) == ("8", "10")
    assert ran["decorated"] == "('function', 21)"
    (warning,) = ran.cases["by value"]["warnings"]
    assert "more_tools, shared_tools" in warning
    assert "KINETIC_PACKAGE_ROOT" in warning


class Holder:
    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


@dataclasses.dataclass
class Slotted:
    __slots__ = ("lock",)
    lock: Any


class Careful:
    """Leaves its lock at home, but not its other troubles."""

    def __init__(self, **parts: Any) -> None:
        self.lock = threading.Lock()
        self.parts = parts

    def __getstate__(self) -> dict[str, Any]:
        return {"parts": self.parts}


class Kind(enum.Enum):
    ONE = 1


LOCK = threading.Lock()


def using_a_closure() -> Callable[[], Any]:
    lock = threading.Lock()
    return lambda: lock


def pack(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return pack_call(function, args, kwargs, root=plain_root(Path.cwd()))


def test_constant_sets_of_a_function_are_pickled_in_the_same_order_by_each_process() -> None:
    packed = pack(lambda name: name in {"delta", "alpha", "gamma", "beta", "zeta", "epsilon"})
    names = (b"alpha", b"beta", b"delta", b"epsilon", b"gamma", b"zeta")
    places = [packed.content.rindex(each) for each in names]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("args", "path"),
    [
        (({"model": Holder(lock=LOCK)},), "args[0]['model'].lock"),
        ((1, [2, (3, LOCK)]), "args[1][1][1]"),
        ((Slotted(LOCK),), "args[0].lock"),
        ((Careful(deep={"x": LOCK}),), "args[0].parts['deep']['x']"),
        ((deque([1, LOCK]),), "args[0][1]"),
        ((OrderedDict(a=LOCK),), "args[0]['a']"),
        ((SimpleNamespace(a=SimpleNamespace(b=LOCK)),), "args[0].a.b"),
        ((functools.partial(print, 1, LOCK),), "args[0].args[1]"),
        ((functools.partial(print, end=LOCK),), "args[0].keywords['end']"),
        ((Holder(lock=LOCK).__init__,), "args[0].__self__.lock"),
        (({Kind.ONE: LOCK},), "args[0][<Kind.ONE: 1>]"),
        (((item for item in ()),), "args[0]"),
    ],
)
def test_an_argument_that_cannot_be_pickled_is_named_by_its_path(
    args: tuple[Any, ...], path: str
) -> None:
    with pytest.raises(UnpicklableError) as caught:
        pack(print, *args)
    assert caught.value.value == path
    assert str(caught.value).startswith(f"{path} cannot be pickled: ")
    assert caught.value.hint


def test_a_keyword_argument_that_cannot_be_pickled_is_named(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(UnpicklableError) as caught:
        pack(print, 1, file=file)
    assert caught.value.value == "kwargs['file']"
    assert "TextIOWrapper" in str(caught.value)


def test_what_a_function_encloses_and_cannot_be_pickled_is_named() -> None:
    with pytest.raises(UnpicklableError) as caught:
        pack(using_a_closure())
    assert caught.value.value == "closure variable 'lock' of using_a_closure.<locals>.<lambda>"
    assert "at the top level of a module" in str(caught.value)


REFUSED = """
    import functools, json, tempfile, threading
    from pathlib import Path
    from kinetic_flows.core.errors import UnpicklableError
    from kinetic_flows.code.payload import pack_call
    from kinetic_flows.code.root import find_package_root

    FILE = tempfile.TemporaryFile()
    NESTED = {"a": [1, FILE]}
    LOCK = threading.Lock()
    BIG = bytes(101_000_000)

    class Text(str):
        def __reduce__(self):
            return "NAMED"

    NAMED = Text("x")

    class Holder:
        file = FILE
        lock = LOCK

    class Beside:
        def lock(self):
            with LOCK:
                return self.lock, FILE

    @functools.cache
    def cached():
        return FILE

    def pack(function):
        import sys
        root = find_package_root(function, override=None, cwd=Path.cwd(), sys_path=sys.path)
        return pack_call(function, (), {}, root=root)

    def said(function):
        try:
            return pack(function).warnings
        except UnpicklableError as error:
            return error.value, str(error)

    cases = {
        "file": said(lambda: FILE),
        "nested": said(lambda: NESTED),
        "named": said(lambda: NAMED),
        "class": said(lambda: Holder),
        "beside": said(lambda: Beside),
        "cached": said(lambda: cached),
        "closure": said((lambda lock: lambda: lock)(LOCK)),
        "large": said(lambda: BIG),
    }
    print(json.dumps(cases))
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    project = write_project(tmp_path_factory.mktemp("refused"), {"main.py": REFUSED})
    said: dict[str, Any] = json.loads(run_python(["main.py"], cwd=project))
    return said


@pytest.mark.parametrize(
    ("case", "path"),
    [
        ("file", "global 'FILE' of <lambda>"),
        ("nested", "global 'NESTED' of <lambda>['a'][1]"),
        ("named", "global 'NAMED' of <lambda>"),
        ("class", "global 'Holder' of <lambda>.file"),
        ("beside", "global 'FILE' of global 'Beside' of <lambda>.lock"),
        ("cached", "global 'FILE' of global 'cached' of <lambda>.__wrapped__"),
        ("closure", "closure variable 'lock' of <lambda>.<locals>.<lambda>"),
    ],
)
def test_what_of_a_script_cannot_travel_is_named(
    refused: dict[str, Any], case: str, path: str
) -> None:
    value, message = refused[case]
    assert value == path
    assert message.startswith(f"{path} cannot be pickled: ")


def test_a_large_global_is_named(refused: dict[str, Any]) -> None:
    (warning,) = refused["large"]
    assert "global 'BIG' of <lambda> is 101.0 MB" in warning


def test_a_cycle_around_what_cannot_be_pickled_ends() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    loop["lock"] = LOCK
    with pytest.raises(UnpicklableError) as caught:
        pack(print, loop)
    assert caught.value.value == "args[0]['lock']"


def test_an_object_nested_too_deeply_is_an_error_of_ours() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UnpicklableError, match="args"):
        pack(print, deep)
    while deep:  # taken down by hand: the collector would recurse
        deep = deep[0]


def test_a_large_argument_is_named() -> None:
    payload = pack(print, {"small": 1}, weights=bytes(101_000_000))
    (warning,) = payload.warnings
    assert "kwargs['weights'] is 101.0 MB" in warning


def test_concurrent_calls_do_not_disturb_the_registry_of_cloudpickle(tmp_path: Path) -> None:
    write_project(tmp_path / "elsewhere", {"far.py": "class Far:\n    def x(self): return 1"})
    main = """
        from concurrent.futures import ThreadPoolExecutor
        import pathlib, pickle, sys, cloudpickle
        from far import Far
        from kinetic_flows.code.payload import pack_call
        from kinetic_flows.code.root import find_package_root

        def train(far): return far.x()

        root = find_package_root(train, override=None, cwd=pathlib.Path.cwd(), sys_path=sys.path)

        def one(_):
            payload = pack_call(train, (Far(),), {}, root=root)
            return b"far" in payload.content and len(payload.warnings) == 1

        with ThreadPoolExecutor(8) as pool:
            print(all(pool.map(one, range(200))), len(cloudpickle.list_registry_pickle_by_value()))
    """
    project = write_project(tmp_path / "project", {"main.py": main})
    printed = run_python(["main.py"], cwd=project, env={"PYTHONPATH": str(tmp_path / "elsewhere")})
    assert printed.split() == ["True", "0"]


def test_another_python_in_the_run_is_refused_with_the_remedy() -> None:
    require_same_python("3.11", "3.11")
    with pytest.raises(ConfigurationError, match=r"Python 3\.12.*Python 3\.11") as caught:
        require_same_python("3.12", "3.11")
    assert "uv run --python 3.11" in str(caught.value)


def _joined(payload: Any) -> Any:
    pieces = {piece.sha256: piece.data for piece in payload.pieces}
    parts = pickle.loads(payload.content)["call"]
    return pickle.loads(b"".join(pieces.get(part, part) for part in parts))


def test_what_calls_have_in_common_is_the_same_pieces(tmp_path: Path) -> None:
    rows, text = [float(number) for number in range(40_000)], b"x" * 100_000
    calls = [
        pack_call(
            len,
            ({"rate": rate}, rows, text, rows),
            {},
            root=plain_root(tmp_path),
            piece_bytes=32_768,
        )
        for rate in (0.25, 0.5)
    ]
    pieces = [{piece.sha256 for piece in each.pieces} for each in calls]
    assert len(pieces[0] & pieces[1]) >= 5
    assert all(len(each.content) < 100_000 for each in calls)
    _, (config, first, words, second), kwargs = _joined(calls[1])
    assert (config, words, kwargs) == ({"rate": 0.5}, text, {})
    assert first == rows
    assert first is second, "what was one object is one object"


def test_small_calls_have_no_pieces(tmp_path: Path) -> None:
    root = plain_root(tmp_path)
    assert pack_call(len, ([1],), {}, root=root, piece_bytes=32_768).pieces == ()
