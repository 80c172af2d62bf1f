"""In a run `__main__` is the script: code in a script behaves as code in a module."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from elsewhere import PACK, call_in_a_runner, run_elsewhere
from runner_jobs import make_bare_python, start_runner, wait
from shipping import run_python, write_project

SCRIPT = {
    "requirements.txt": "",
    "data/values.csv": "1,2",
    "settings.py": """
        import threading
        from pathlib import Path
        DATA = Path(__file__).parent / "data"
        NAME = str(DATA)
        LOCK = threading.Lock()
    """,
    "main.py": """
        from __future__ import annotations

        import contextlib, contextvars, dataclasses, enum, functools, inspect, os, pickle, queue
        import multiprocessing, threading, typing, weakref
        from concurrent.futures import ProcessPoolExecutor
        from pathlib import Path

        import kinetic
        import settings
        from client import case
        from settings import DATA as IMPORTED, LOCK as SHARED, NAME

        HERE = Path(__file__).resolve().parent
        DATA = HERE / "data" / "values.csv"
        DATA_TEXT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
        def by_default(path=DATA, *, folder=HERE / "data"):
            return path.read_text(), os.listdir(folder)

        class Reader:
            path = DATA
            def read(self, path=os.path.join(DATA_TEXT, "values.csv")):
                return self.path.read_text(), open(path).read()

        LOCK = threading.Lock()
        READY = threading.Event()
        LOCAL = threading.local()

        UserId = typing.NewType("UserId", int)
        P = typing.ParamSpec("P", bound=None)
        T = typing.TypeVar("T")
        Ts = typing.TypeVarTuple("Ts")
        Alias = typing.Callable[P, T]

        class _Missing:
            def __reduce__(self):
                return "MISSING"

        MISSING = _Missing()

        class Movie(typing.TypedDict, total=False):
            title: str

        @functools.cache
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)

        @functools.lru_cache(maxsize=7, typed=True)
        def cached(x):
            return x

        @functools.singledispatch
        def depth(value):
            return 0

        @depth.register(list)
        def _(value):
            return 1 + max(map(depth, value), default=0)

        @contextlib.contextmanager
        def locked():
            with LOCK:
                yield LOCK.locked()

        VARIABLE = contextvars.ContextVar("VARIABLE", default=3)
        SLOTS = threading.BoundedSemaphore(2)
        WAITING = queue.PriorityQueue(5)
        KNOWN = weakref.WeakValueDictionary()

        def uses_what_is_made_anew():
            SLOTS.acquire(), SLOTS.acquire(), WAITING.put(1)
            with locked() as is_locked:
                made = VARIABLE.get(), SLOTS.acquire(blocking=False), WAITING.maxsize, len(KNOWN)
                return is_locked, made

        class Shade(enum.Enum):
            DARK = "dark"

        @dataclasses.dataclass
        class Part:
            size: int

        @dataclasses.dataclass
        class Whole:
            parts: list[Part]
            shade: "typing.Optional[Shade]" = None

            lock = threading.Lock()

            @functools.cached_property
            def count(self):
                return len(self.parts)

            @functools.lru_cache
            def cost(self):
                return 1

            __hash__ = object.__hash__

        def typed(x: Whole, y: list[Movie]) -> UserId:
            return x

        def shout(text):
            return text.upper()

        def in_pool(start):
            context = multiprocessing.get_context(start)
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                return list(pool.map(make_whole, [1, 2]))

        def make_whole(size):
            return Whole([Part(size)], Shade.DARK)

        def make():
            @dataclasses.dataclass
            class Local:
                size: int
                parts: list = dataclasses.field(default_factory=list)

            @kinetic.run
            def local(value: Local):
                return type(value).__name__, value.size, value.parts

            return local.fn

        def read(function, name, value):
            from kinetic_flows.runner_image.runner.parameters import with_parameters
            args, _ = with_parameters(function, (), {}, {name: value})
            return args[0]

        def nested(whole: Whole):
            return whole

        def pickled(value):
            return pickle.loads(pickle.dumps(value))

        def uses_locks():
            with LOCK, SHARED, Whole.lock:
                LOCAL.x = 1
                return READY.is_set(), SHARED is settings.LOCK, Whole.lock is not LOCK

        if __name__ == "__main__":
            fib(3), cached(1)
            case("file", lambda: (Path(__file__).parent / "data" / "values.csv").read_text())
            case("module-level path", lambda: (DATA.read_text(), os.listdir(DATA_TEXT)))
            case("default path", by_default)
            case("path of a class", Reader().read)
            case("imported path", lambda: (IMPORTED == settings.DATA, os.listdir(NAME)))
            case("name", lambda: (__name__, __spec__, "__file__" in globals()))
            case("pickled class", lambda: pickled(Whole) is Whole)
            case("pickled instance", lambda v: pickled(v) == v, Whole([Part(1)]))
            case("class of an argument only", lambda v: type(pickled(v)) is type(v), Part(1))
            case("pickled function", lambda: pickled(shout) is shout)
            case("pickled enum", lambda: pickled(Shade.DARK) is Shade.DARK)
            case("hints of a class", lambda: sorted(typing.get_type_hints(Whole)))
            case("hints of a function", lambda: sorted(typing.get_type_hints(typed)))
            case("hints of a hint", lambda: typing.get_type_hints(typed)["y"])
            case("cached", lambda: (fib(10), cached(2), cached.cache_parameters()["maxsize"]))
            case("cache of its own", lambda: fib.cache_info().misses)
            case("pickled cached function", lambda: pickled(fib) is fib)
            case("cached property", lambda v: v.count, Whole([Part(1)]))
            case("cached method", lambda v: v.cost(), Whole([Part(1)]))
            case("new type", lambda: (UserId(3), pickled(UserId) is UserId))
            case("parameters", lambda: (pickled(P) is P, pickled(Ts) is Ts, pickled(T) is T))
            case("alias", lambda: Alias.__parameters__ == (P, T))
            case("sentinel", lambda: pickled(MISSING) is MISSING)
            case("sentinel argument", lambda v: v is MISSING, MISSING)
            case("typed dictionary", lambda: (Movie(title="x"), sorted(Movie.__optional_keys__)))
            case("locks", uses_locks)
            case("dispatched", lambda: (depth(1), depth([[1], 2]), pickled(depth) is depth))
            case("made anew", uses_what_is_made_anew)
            case("inspected", lambda: inspect.getsource(shout))
            case("its class inspected", lambda: inspect.getsource(Part).splitlines()[1])
            case("a parameter", lambda f: read(f, "whole", {"parts": [{"size": 1}]}), nested)
            case("a local class", lambda f: f(read(f, "value", {"size": "7"})), make())
            case("no default", lambda: dataclasses.fields(Part)[0].default is dataclasses.MISSING)
            case("main", lambda: __import__("__main__").shout is shout)
            case("argument path", lambda p: p, Path("/somewhere/else"))
    """,
}

EXPECTED = {
    "file": "'1,2'",
    "module-level path": "('1,2', ['values.csv'])",
    "default path": "('1,2', ['values.csv'])",
    "path of a class": "('1,2', '1,2')",
    "imported path": "(True, ['values.csv'])",
    "name": "('__main__', None, True)",
    "pickled class": "True",
    "pickled instance": "True",
    "class of an argument only": "True",
    "pickled function": "True",
    "pickled enum": "True",
    "hints of a class": "['parts', 'shade']",
    "hints of a function": "['return', 'x', 'y']",
    "hints of a hint": "list[__main__.Movie]",
    "cached": "(55, 2, 7)",
    "cache of its own": "0",
    "pickled cached function": "True",
    "cached property": "1",
    "cached method": "1",
    "new type": "(3, True)",
    "parameters": "(True, True, True)",
    "alias": "True",
    "sentinel": "True",
    "sentinel argument": "True",
    "typed dictionary": "({'title': 'x'}, ['title'])",
    "locks": "(False, True, True)",
    "dispatched": "(0, 2, True)",
    "made anew": "(True, (3, False, 5, 0))",
    "inspected": repr("def shout(text):\n    return text.upper()\n"),
    "its class inspected": "'class Part:'",
    "a parameter": "Whole(parts=[Part(size=1)], shade=None)",
    "a local class": "('Local', 7, [])",
    "no default": "True",
    "main": "True",
    "argument path": "PosixPath('/somewhere/else')",
}


@pytest.fixture(scope="module")
def in_script(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        return run_elsewhere(tmp_path_factory.mktemp("script"), SCRIPT)


@pytest.mark.parametrize("name", EXPECTED)
def test_code_in_a_script_behaves_as_code_in_a_module(in_script, name: str) -> None:
    assert in_script[name] == EXPECTED[name]
    assert in_script.cases[name]["warnings"] == ()


STARTED = """
    import multiprocessing, sys
    from concurrent.futures import ProcessPoolExecutor
    from dataclasses import dataclass

    @dataclass
    class Answer:
        value: int

    def double(answer):
        return Answer(2 * answer.value)

    def train(starts):
        found = []
        for start in starts:
            context = multiprocessing.get_context(start)
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found += pool.map(double, [Answer(1)])
            with context.Pool(1) as pool:
                found += pool.map(double, [Answer(2)])
        return [(type(each) is Answer, each.value) for each in found]

    if __name__ == "__main__":
        from packing import pack
        pack(train, sys.argv[1:])
"""


@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("how", [["main.py"], ["-m", "pkg.main"]], ids=["script", "module"])
def test_processes_that_a_scripts_function_starts_find_the_script(
    tmp_path: Path, start: str, how: list[str]
) -> None:
    files = {"requirements.txt": "", "main.py": STARTED, "pkg/main.py": STARTED}
    job, ended = call_in_a_runner(tmp_path, files, *how, start)
    assert ended.exit_code == 0, ended.output
    assert job.value() == [(True, 2), (True, 4)]


DECORATED = """
    import sys
    import kinetic
    from kinetic import KineticError, Run, run

    @run(accelerator="l4")
    def prepare(x, runs: list[Run] = ()):
        return x + 1

    class Model:
        @run
        def fit(self, x):
            return prepare.with_options(retries=1)(x)

    @run
    def train(x):
        refused = []
        for use in (prepare.submit, prepare.map, Model().fit.submit, train.deploy):
            try:
                use(x)
            except KineticError as error:
                refused.append(error.message.partition(" ")[0])
        import __main__
        same = __main__.train is train is train.fn and __main__.prepare is prepare
        return prepare.fn(Model().fit(x)), refused, same, Model

    if __name__ == "__main__":
        from packing import pack
        pack(train, 1)
"""


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "not installed"])
def test_a_scripts_decorated_functions_have_in_a_run_what_those_of_modules_have(
    tmp_path: Path, installed: bool
) -> None:
    job, ended = call_in_a_runner(tmp_path, {"requirements.txt": "", "main.py": DECORATED})
    assert ended.exit_code == 0, ended.output
    if not installed:
        job.result_path.unlink()
        bare = make_bare_python(tmp_path / "venv", with_cloudpickle=True)
        ended = wait(start_runner(job.write(), python=bare))
        assert ended.exit_code == 0, ended.output
    value, refused, same, model = job.value()
    assert (value, same) == (3, True)
    assert refused == ["prepare.submit", "prepare.map", "fit.submit", "train.deploy"]
    assert model().fit(1) == 2


RETURNED = """
    import dataclasses, enum, functools, pickle, sys, threading
    from kinetic_flows.code.unpickling import load_returned

    CALLS = []

    class Shade(enum.Enum):
        DARK = 1

    class Wrong(Exception):
        lock = threading.Lock()

    class Answer:
        def __init__(self, value):
            self.value = value

        @functools.singledispatchmethod
        def read(self, text):
            return self.value

    @dataclasses.dataclass
    class Config:
        rate: float
        shade: Shade = Shade.DARK
        lock = threading.Lock()
        made = 0

        @functools.cached_property
        def doubled(self):
            return 2 * self.rate

        def note(self):
            CALLS.append(self.rate)

    def train(config):
        Config.made += 1
        config.rate = config.doubled
        return config, Wrong("as it is"), Answer(42)

    if __name__ == "__main__":
        from packing import pack
        pack(train, Config(0.5))
        before = dict(vars(Config))
        import back
        config, error, answer = back.read(load_returned)
        assert type(answer) is Answer and answer.read("") == 42
        assert type(config) is Config and type(error) is Wrong, type(config)
        assert dict(vars(Config)) == before
        config.note()
        assert CALLS == [1.0] and Config.made == 0 and config.shade is Shade.DARK
        assert dataclasses.fields(config)[0].default is dataclasses.MISSING
        print("kept")
"""

BACK = """
    import os, pathlib, pickle, subprocess, sys

    def read(load):
        # The runner's own process, then this one, as a client goes on after a call.
        source = pathlib.Path(os.environ["RUNNER"]).read_text()
        done = subprocess.run([sys.executable, "-c", source], capture_output=True)
        assert done.returncode == 0, done.stderr
        return load(done.stdout)
"""

RUNNER = """
import contextlib, io, os, pickle, sys
from kinetic_flows.runner_image.runner.main_module import install_main
from kinetic_flows.runner_image.runner.payload import load_call
from kinetic_flows.runner_image.runner.result_pickler import dump_value
frame = pickle.loads(pickle.load(open(os.environ["PACKED"], "rb"))[0])
install_main(None, None)
function, args, kwargs = load_call(frame, "", [])
buffer = io.BytesIO()

@contextlib.contextmanager
def new_file():
    buffer.seek(0)
    buffer.truncate()
    yield buffer

dump_value(function(*args, **kwargs), new_file)
sys.stdout.buffer.write(buffer.getvalue())
"""


def test_what_a_run_returns_leaves_the_classes_of_the_script_as_they_are(tmp_path: Path) -> None:
    files = {"requirements.txt": "", "main.py": RETURNED, "back.py": BACK}
    tools = write_project(tmp_path / "tools", {"packing.py": PACK, "runner.py": RUNNER})
    project = write_project(tmp_path / "project", files)
    (tmp_path / "store").mkdir()
    env = {
        "STORE": str(tmp_path / "store"),
        "PACKED": str(tmp_path / "packed"),
        "RUNNER": str(tools / "runner.py"),
        "PYTHONPATH": str(tools),
    }
    assert run_python(["main.py"], cwd=project, env=env) == "kept\n"


ALIASES = """
    import pickle
    from client import case

    type Number = int | float
    type Pair[T] = tuple[T, T]
    type Json = dict[str, Json] | int

    class Box[T]:
        item: T

    def train(value: Json, pair: Pair[int]) -> Number:
        return value

    case("used in annotations", train, 1, (1, 2))
    case("value", lambda: (Number.__value__, Json.__value__, Pair[int]))
    aliases = Number, Json, Pair
    case("pickled", lambda: pickle.loads(pickle.dumps(aliases)) == aliases)
    case("generic class", lambda: (Box[int], pickle.loads(pickle.dumps(Box)) is Box))
"""


if sys.version_info >= (3, 12):  # whose syntax it is

    def test_type_statements_of_a_script_travel(tmp_path: Path) -> None:
        ran = run_elsewhere(tmp_path, {"requirements.txt": "", "main.py": ALIASES})
        assert {name: text for name, (_, text) in ran.results.items()} == {
            "used in annotations": "1",
            "value": "(int | float, dict[str, Json] | int, Pair[int])",
            "pickled": "True",
            "generic class": "(__main__.Box[int], True)",
        }
