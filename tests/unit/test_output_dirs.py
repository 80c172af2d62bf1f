"""`output_dir=`: how it is written, what takes the place of its fields, and where it is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePosixPath
from textwrap import dedent
from types import ModuleType
from typing import Any

import numpy
import pytest
from kinetic_flows.runner_image.runner import contract, output_dirs, output_leases

import kinetic
from kinetic_flows.clients.prefect.profiles import SavedProfiles
from kinetic_flows.code.arguments_hash import all_arguments, arguments_hash
from kinetic_flows.core import object_names
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.job_parts import OutputSpec
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.output_dirs import filled, path_part, plain_arguments_hash
from kinetic_flows.core.settings.settings import load_settings, resolve_settings
from kinetic_flows.plans.draft import Call
from kinetic_flows.plans.outputs import check_fields, output_spec
from kinetic_flows.plans.sweep_outputs import SweepOutputs
from kinetic_flows.platforms.choose import choose_platform

CLUSTER = {
    "KINETIC_PROJECT": "vision",
    "KINETIC_ZONE": "us-east5-b",
    "KINETIC_CLUSTER": "training",
}


@dataclass(frozen=True)
class Model:
    depth: int
    widths: tuple[int, ...] = (1, 2)


class Mode(Enum):
    FAST = 1


def train(rate: float, name: str = "a", *more: int, seed: int = 0, **rest: Any) -> None:
    """Be called with something."""


def option(value: object) -> str | None:
    return RunOptions().updated({"output_dir": value}).output_dir


# How it is written


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("nightly", "nightly"),
        (" a//b/ ", "a/b"),
        ("gs://bucket//a/", "gs://bucket/a"),
        ("gs://bucket", "gs://bucket"),
        ("/data/out", "/data/out"),
        ("{function}/{arguments_hash}", "{function}/{arguments_hash}"),
        (Path("/data/out"), "/data/out"),
        (Path("out"), "./out"),
        (Path("~/out"), "~/out"),
    ],
)
def test_an_output_directory_is_a_name_a_path_or_a_uri(given: object, used: str) -> None:
    assert option(given) == used


@pytest.mark.parametrize(
    "given",
    [
        "",
        "/",
        "../up",
        "a/../b",
        "gs://",
        "gs://b/../c",
        "s3://bucket/a",
        "https://host/a",
        "x://gs://bucket",
        "{}",
        "{0}",
        "{rate:.2f}",
        "{rate!r}",
        "{a.b}",
        "{{rate}}",
        "{rate",
        "rate}",
        "a\nb",
        "a\0b",
        7,
    ],
)
def test_what_is_no_directory_is_refused_with_what_to_write(given: object) -> None:
    with pytest.raises(UsageError) as caught:
        option(given)
    assert caught.value.value == given
    assert caught.value.hint


def test_two_runs_in_one_directory_are_refused_or_wait() -> None:
    assert RunOptions().output_dir_in_use == "refuse"
    with pytest.raises(UsageError, match="output_dir_in_use is 'share'"):
        RunOptions().updated({"output_dir_in_use": "share"})


# Its fields


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("plain-1.5_x", "plain-1.5_x"),
        ("größe", "größe"),
        (0.1, "0.1"),
        (1e-05, "1e-05"),
        (-3, "-3"),
        (True, "True"),
        (None, "None"),
    ],
)
def test_a_plain_value_is_a_part_of_a_path_as_it_is(value: Any, part: str) -> None:
    assert path_part(value) == output_dirs.path_part(value) == part


HOSTILE = ["", ".", "..", ".hidden", "a/b", "a-b", "a b", "a\nb", "ä" * 200, "x" * 300, "{rate}"]


def test_values_that_differ_have_parts_that_differ_and_lead_nowhere_else() -> None:
    parts = [path_part(text) or "" for text in HOSTILE]
    assert len(set(parts)) == len(HOSTILE)
    for part in parts:
        assert part
        assert not set(part) & set("/{}\n ")
        assert not part.startswith(".")
        assert len(part.encode()) <= 100


@pytest.mark.parametrize("value", [*HOSTILE, 1, 2.5, False, None, [1], {"a": 1}])
def test_the_runner_makes_the_same_part_of_a_json_value(value: Any) -> None:
    assert output_dirs.path_part(value) == path_part(value)


def test_a_field_that_nobody_knows_yet_stays() -> None:
    known = {"a": "1"}
    assert filled("x/{a}/{b}/{a}", known.get) == "x/1/{b}/1"


def test_the_runner_fills_in_what_a_client_would_have() -> None:
    arguments = {"rate": 0.1, "name": "a/b", "seed": 0, "more": [], "rest": {}}
    directory = "gs://bucket/x/{rate}/{name}/{arguments_hash}"
    values = {**{key: path_part(value) for key, value in arguments.items()}}
    expected = filled(
        directory,
        {**values, "arguments_hash": plain_arguments_hash(arguments)}.get,
    )
    assert output_dirs.exact_directory(directory, arguments) == expected


@pytest.mark.parametrize("arguments", [{}, {"rate": [1, 2]}])
def test_the_runner_names_an_argument_that_is_not_there_or_is_no_part_of_a_path(
    arguments: Mapping[str, Any],
) -> None:
    with pytest.raises(contract.Fault, match=r"x/\{rate\}, and rate is") as caught:
        output_dirs.exact_directory("x/{rate}", arguments)
    assert caught.value.exit_code == contract.EXIT_PARAMETERS_UNAVAILABLE


@pytest.mark.parametrize("directory", ["/home/me/outputs/a", "gs://bucket/größe"])
def test_client_and_runner_know_one_lease_of_a_directory(directory: str) -> None:
    assert output_leases.lease_object(directory) == object_names.output_lease_object(directory)


# The digest of arguments


def digest(*args: Any, **kwargs: Any) -> str:
    return arguments_hash(all_arguments(train, args, kwargs))


def test_the_digest_of_plain_arguments_is_that_of_their_json() -> None:
    known = all_arguments(train, (0.1,), {})
    assert known == {"rate": 0.1, "name": "a", "more": (), "seed": 0, "rest": {}}
    assert arguments_hash(known) == plain_arguments_hash(known) == "2318e04f42714b81"
    as_json = {**known, "more": []}
    assert output_dirs.arguments_hash(as_json) == plain_arguments_hash(known)


def test_however_an_argument_is_given_the_digest_is_the_same() -> None:
    assert digest(0.1) == digest(rate=0.1) == digest(0.1, "a", seed=0)
    assert digest(0.1, b=1, a=2) == digest(0.1, a=2, b=1)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        ("1", 1),
        ([1], [[1]]),
        (b"a", "a"),
        (Model(1), Model(2)),
        (Model(1), Model(1, (2, 1))),
        (Mode.FAST, 1),
        ({1: 2}, {2: 1}),
        ({1, 2}, {1, 3}),
        (numpy.zeros(3), numpy.ones(3)),
        (numpy.zeros(3), numpy.zeros(3, "float32")),
        (Data("gs://bucket/1"), Data("gs://bucket/2")),
        (Path("/a"), Path("/b")),
        (Decimal(1), Decimal(2)),
        (len, max),
        (lambda: 1, lambda: 2),
    ],
)
def test_arguments_that_differ_have_digests_that_differ(one: Any, other: Any) -> None:
    assert digest(one) == digest(one)
    assert digest(one) != digest(other)


def test_equal_parts_are_equal_whether_they_are_one_object() -> None:
    model = Model(1)
    assert digest([model, model]) == digest([Model(1), Model(1)])
    recursive: list[Any] = [model]
    recursive.append(recursive)
    assert digest(recursive) == digest(recursive)


def test_the_code_of_what_is_found_by_its_name_is_not_in_the_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Such is `copyreg.__newobj__`, by which most objects are made again, with each Python's code.
    made = ModuleType("made_twice")
    monkeypatch.setitem(sys.modules, "made_twice", made)
    exec("def found(): return 1", vars(made))
    one, first = digest(made.found), made.found
    exec("def found(): return 2", vars(made))
    assert digest(made.found) == one
    # The first is found no more: its code is all there is.
    assert digest(first) != one


def test_the_digest_is_the_same_in_every_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        dedent("""
            from dataclasses import dataclass
            import numpy
            from kinetic_flows.code.arguments_hash import arguments_hash
            @dataclass
            class Config:
                tags: set
                kind: type
            class Other: pass
            config = Config({"a", "b", "c", "d"}, Other)
            print(arguments_hash({"config": config, "data": numpy.arange(5), "f": lambda x: x + 1}))
        """)
    )
    printed = {
        subprocess.run(
            [sys.executable, str(script)],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(printed) == 1


def test_what_cannot_be_pickled_is_named_with_what_to_write_instead() -> None:
    with pytest.raises(UsageError, match="rate cannot be pickled") as caught:
        digest(number for number in [1])
    assert "{rate}" in str(caught.value.hint)


# Where it is


def where(
    template: str, environ: Mapping[str, str], *args: Any, function: Any = train, **options: Any
) -> str:
    settings = load_settings(environ)
    settings = resolve_settings(settings, SavedProfiles(lambda: None), environ=environ)
    platform = choose_platform(settings, environ)
    chosen = RunOptions().updated({"output_dir": template, **options})
    call = Call(function=function, args=args or (0.1,), kwargs={}, options=chosen)
    check_fields(function, chosen)
    spec = output_spec(call, settings, platform)
    assert spec is not None
    assert spec.place == (spec.uri or spec.directory)
    return spec.directory if not spec.uri else f"{spec.directory} is {spec.uri}"


@pytest.fixture
def here(tmp_path: Path) -> dict[str, str]:
    """The settings of a machine without a cluster."""
    return {"KINETIC_HOME": str(tmp_path / "home")}


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """The settings of a machine with one."""
    return {"KINETIC_HOME": str(tmp_path / "home"), **CLUSTER}


def test_a_name_is_below_the_directory_of_outputs(
    here: dict[str, str], cluster: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "home" / "store" / "outputs"
    assert where("runs/{function}", here) == str(root / "runs" / "train")
    own = {**here, "KINETIC_OUTPUT_DIR": str(tmp_path / "own")}
    assert where("a", own) == str(tmp_path / "own" / "a")
    assert where("a", cluster) == "gs://vision-kn-training-jobs/outputs/a"
    assert where("a", {**cluster, "KINETIC_OUTPUT_DIR": "gs://b/c/"}) == "gs://b/c/a"


def test_a_path_is_that_of_this_machine(
    here: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert where("/data/out", here) == "/data/out"
    assert where("./out", here) == str(tmp_path / "out")
    assert where("~/out", here) == "/home/me/out"


def test_a_path_on_a_volume_of_this_machine_is_refused(here: dict[str, str]) -> None:
    volumes = {"/out": Data("gs://bucket/p", mode="mount", read_only=False)}
    with pytest.raises(UsageError, match="nothing stays on this machine") as refused:
        where("/out/a", here, volumes=volumes)
    assert "give a name" in str(refused.value.hint)
    assert where("/outside/a", here, volumes=volumes) == "/outside/a"


def test_a_uri_is_used_as_it_is_on_a_cluster_and_refused_here(
    here: dict[str, str], cluster: dict[str, str]
) -> None:
    assert where("gs://bucket/{name}", cluster, name="nightly") == "gs://bucket/a"
    with pytest.raises(UsageError, match="'gs://bucket/a': runs on this machine write to a dir"):
        where("gs://bucket/a", here)


def test_a_path_on_a_cluster_has_to_be_on_a_volume_that_stays(cluster: dict[str, str]) -> None:
    volumes = {"/out": "pvc:claim", "/ro": "pvc:other:ro", "/scratch": "scratch:1Gi"}
    volumes["/mounted"] = Data("gs://bucket/p", mode="mount")
    # Another claim of another function may be at the same path.
    assert where("/out/a", cluster, volumes=volumes) == "/out/a is pvc:claim/a"
    assert where("/out", cluster, volumes={"/out": "pvc:disk/mine"}) == "/out is pvc:disk/mine"
    mounted = {"/out": Data("gs://bucket/p", mode="mount", read_only=False)}
    assert where("/out/{rate}", cluster, volumes=mounted) == "/out/0.1 is gs://bucket/p/0.1"
    bare = {"/out": Data("gs://bucket", mode="mount", read_only=False)}
    assert where("/out", cluster, volumes=bare) == "/out is gs://bucket"
    for path in ("/mounted/a", "/ro/a", "/scratch/a", "/outside", "~/a", "./a"):
        with pytest.raises(UsageError, match="gone with the run's pod") as caught:
            where(path, cluster, volumes=volumes)
        assert "pvc:my-claim" in str(caught.value.hint)


def test_fields_are_the_function_its_name_and_its_arguments(here: dict[str, str]) -> None:
    def other(rate: float) -> None: ...

    assert Path(where("{function}-{name}-{rate}", here, function=other, name="n 1")).name == (
        f"other-{path_part('n 1')}-0.1"
    )
    # An argument comes before what we call so.
    assert Path(where("{name}", here, 0.1, "mine")).name == "mine"
    hashed = arguments_hash(all_arguments(train, (0.1,), {}))
    assert Path(where("{arguments_hash}", here)).name == hashed


@pytest.mark.parametrize(
    ("value", "part"),
    [(numpy.float64(0.5), "0.5"), (numpy.int32(3), "3"), (numpy.bool_(True), "True")],
)
def test_numbers_of_other_libraries_are_numbers(
    here: dict[str, str], value: Any, part: str
) -> None:
    assert Path(where("{rate}", here, value)).name == part


def test_a_path_argument_is_its_text(here: dict[str, str]) -> None:
    assert Path(where("{rate}", here, PurePosixPath("a/b"))).name == path_part("a/b")


def test_what_is_no_part_of_a_path_is_refused_by_name(here: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="rate is a list") as caught:
        where("{rate}", here, [1, 2])
    assert "{arguments_hash}" in str(caught.value.hint)

    def login(api_key: str) -> None: ...

    with pytest.raises(UsageError, match="api_key seems to be a secret") as caught:
        where("{api_key}", here, "s3cr3t", function=login)
    assert "s3cr3t" not in str(caught.value)


def test_a_field_that_is_no_argument_is_refused_with_those_there_are(here: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="train has no argument 'rat'") as caught:
        where("{rat}", here)
    assert "did you mean 'rate'?" in str(caught.value.hint)


def test_fields_stay_that_a_plan_has_no_arguments_for(here: dict[str, str]) -> None:
    def other(rate: float, seed: int = 0) -> None: ...

    template = "{function}-{rate}-{seed}-{arguments_hash}"
    options = RunOptions().updated({"output_dir": template})
    settings = load_settings(here)
    call = Call(function=other, args=(), kwargs={}, options=options, may_lack_arguments=True)
    spec = output_spec(call, settings, choose_platform(settings, here))
    assert spec is not None
    assert Path(spec.directory).name == "other-{rate}-0-{arguments_hash}"


def test_inputs_of_a_sweep_may_not_share_a_directory() -> None:
    outputs = SweepOutputs()
    outputs.add(0, OutputSpec(directory="a"))
    outputs.add(1, OutputSpec(directory="b"))
    outputs.add(0, OutputSpec(directory="a"))
    outputs.add(2, None)
    with pytest.raises(UsageError, match="inputs 1 and 3 would both write to b") as caught:
        outputs.add(3, OutputSpec(directory="b"))
    assert "{arguments_hash}" in str(caught.value.hint)


# Inside a run


def test_outside_a_run_the_directories_of_one_are_not_named() -> None:
    for ask in (kinetic.checkpoint_dir, kinetic.output_dir):
        with pytest.raises(UsageError, match=rf"kinetic.{ask.__name__}\(\) names a directory"):
            ask()
