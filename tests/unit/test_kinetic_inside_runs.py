"""The package `kinetic` inside a run, whether it is installed there or not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import kinetic
from kinetic_flows.core import errors
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.public_names import HOMES
from runner_jobs import RUN_ID, Job, make_bare_python, start_runner, wait


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """An interpreter that has cloudpickle and no kinetic."""
    return make_bare_python(tmp_path / "venv", with_cloudpickle=True)


@pytest.fixture(params=["installed", "not installed"])
def either_python(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An interpreter that has kinetic, and one that has not."""
    if request.param == "installed":
        return Path(sys.executable)
    return make_bare_python(tmp_path / "venv", with_cloudpickle=True)


def run_on(python: Path, tmp_path: Path, source: str, *args: object) -> Job:
    """Run a function of a module on an interpreter, and return its job."""
    job = Job(tmp_path / "store", source=source, args=args)
    ended = wait(start_runner(job.write(), python=python))
    job.variables["seen"] = ended.output + ended.errors
    return job


def test_decorators_of_every_form_leave_the_plain_function(
    tmp_path: Path, either_python: Path
) -> None:
    source = """
        import kinetic, kinetic_flows
        from kinetic import KineticError, Run, run
        @kinetic.run
        def bare(x): return x + 1
        bare_flow = bare.as_flow()
        @run(accelerator="l4")
        def other(x): return bare.fn(x) + 1
        other = other.with_options(retries=3)
        class Flow:
            def __init__(self, fn): self.fn = fn
            def __call__(self, x): return self.map(self.fn, x)
            def map(self, fn, x): return fn(x)
        flow = run()(Flow(lambda x: x))
        @kinetic_flows.run()
        def main(run: Run[int] | None = None):
            try:
                return other(flow(1)), type(main).__name__
            except KineticError:
                return None
    """
    assert run_on(either_python, tmp_path, source).value() == (3, "function")


def test_a_run_knows_where_its_outputs_and_checkpoints_go(
    tmp_path: Path, either_python: Path
) -> None:
    source = """
        import os
        from kinetic import checkpoint_dir, output_dir
        def main():
            return output_dir(), checkpoint_dir(), os.path.isdir(checkpoint_dir())
    """
    outputs = tmp_path / "store" / "outputs" / RUN_ID
    told = run_on(either_python, tmp_path, source).value()
    assert told == (str(outputs), str(outputs / "checkpoints"), True)


def test_where_outputs_go_to_a_bucket_checkpoints_do_so_too(tmp_path: Path) -> None:
    source = """
        import kinetic
        def main():
            return kinetic.output_dir(), kinetic.checkpoint_dir()
    """
    job = Job(tmp_path / "store", source=source, changes={"output_dir": "gs://bucket/a"})
    assert job.run().exit_code == 0
    assert job.value() == ("gs://bucket/a", "gs://bucket/a/checkpoints")


def test_data_can_be_made_where_modules_are_imported(tmp_path: Path, either_python: Path) -> None:
    source = """
        import kinetic
        DATA = kinetic.Data("gs://bucket/a")
        @kinetic.run(volumes={"/data": kinetic.Data("hf://datasets/owner/name")})
        def main(data: kinetic.Data = DATA):
            try:
                return open(DATA)
            except kinetic.KineticError as error:
                return DATA.source, str(error).splitlines()[0]
    """
    name, message = run_on(either_python, tmp_path, source).value()
    assert name == "gs://bucket/a"
    assert message.startswith("kinetic.Data('gs://bucket/a') is no path here: it becomes one")


def test_a_decorated_function_has_all_that_it_has_elsewhere(
    tmp_path: Path, either_python: Path
) -> None:
    source = """
        import kinetic
        @kinetic.run
        def train(x): return x
        @kinetic.run
        def main(names):
            return [name for name in names if not hasattr(train, name)]
    """
    remote = kinetic.run()(run_on)
    names = [name for name in dir(remote) if not name.startswith("_")]
    assert {"fn", "map", "options", "submit"} <= set(names)
    assert run_on(either_python, tmp_path, source, names).value() == []


@pytest.mark.parametrize(
    ("use", "message", "hint"),
    [
        ("submit(function=1)", "train.submit cannot be used", "call train(...) for its value"),
        ("map([1])", "train.map cannot be used", "call train(...) for each input"),
        ("plan()", "train.plan cannot be used", "where runs are launched"),
        ("deploy('nightly')", "train.deploy cannot be used", 'if __name__ == "__main__":'),
        ("options.tags", "train.options.tags cannot be read", "as an argument"),
    ],
)
def test_what_would_launch_something_says_what_to_do_instead(
    tmp_path: Path, either_python: Path, use: str, message: str, hint: str
) -> None:
    source = f"""
        import kinetic
        from kinetic_flows.core.errors import UsageError
        @kinetic.run(accelerator="l4")
        def train(x): return x
        def main():
            try:
                train.{use}
            except kinetic.KineticError as error:
                assert isinstance(error, UsageError)
                raise
    """
    job = run_on(either_python, tmp_path, source)
    error = job.value()
    assert type(error) is UsageError
    assert message in error.message
    assert hint in error.hint


def test_every_public_name_is_there_and_errors_are_the_clients_own(
    tmp_path: Path, either_python: Path
) -> None:
    source = """
        import kinetic, kinetic_flows, kinetic_flows.core.errors
        from kinetic import *
        def main(homes):
            assert all(getattr(kinetic, name) is globals()[name] for name in kinetic.__all__)
            for name, home in homes.items():
                exec(f"from kinetic_flows.{home} import {name} as found")
                assert locals()["found"] is getattr(kinetic, name), name
            errors = vars(kinetic_flows.core.errors)
            shown = {name for name in dir(kinetic) if not name.startswith("_")}
            kinds = [kind for kind in errors.values() if isinstance(kind, type)]
            versions = kinetic.__version__, kinetic_flows.__version__
            return kinetic.__all__, shown >= {*kinetic.__all__}, versions, kinds, kinetic.Run
    """
    job = run_on(either_python, tmp_path, source, HOMES)
    own = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    versions = (kinetic.__version__, kinetic.__version__)
    assert job.value() == (kinetic.__all__, True, versions, own, kinetic.Run)


def test_names_can_be_annotated_with_asked_for_caught_and_looked_for(
    tmp_path: Path, either_python: Path
) -> None:
    source = """
        import typing
        import kinetic
        from kinetic_flows.api.deployment import Deployment
        from kinetic_flows.core.errors import ObjectNotFoundError, suggest
        class Job(typing.NamedTuple):
            run: kinetic.Run[int] | None
            group: "kinetic.RunGroup[int]" = None
        def helper(
            found: Deployment[int] | kinetic.RemoteFunction[..., int]
        ) -> kinetic.Run: ...
        try:
            from kinetic import not_there
        except ImportError:
            not_there = None
        @kinetic.run
        def main():
            hints = typing.get_type_hints(helper), typing.get_type_hints(Job)
            assert hints[0]["return"] is kinetic.Run
            assert not isinstance(main, (kinetic.RemoteFunction, kinetic.Run))
            try:
                raise ObjectNotFoundError("gone", value=1)
            except (kinetic.RunFailed, kinetic.KineticError) as error:
                return suggest("rnu", ["run"]), error.value, not_there
    """
    expected = ("did you mean 'run'? Valid: run", 1, None)
    job = run_on(either_python, tmp_path, source)
    assert job.value() == expected, job.variables["seen"]


@pytest.mark.parametrize(
    "use", ["attach('x')", "list_runs()", "attach_group('x')", "Run()", "RunPlan.of()"]
)
def test_what_needs_a_client_says_where_there_is_none_how_to_have_one(
    tmp_path: Path, bare_python: Path, use: str
) -> None:
    job = run_on(bare_python, tmp_path, f"import kinetic\ndef main():\n kinetic.{use}")
    error = job.value()
    assert type(error) is UsageError
    assert f"kinetic.{use.partition('(')[0]} cannot be used inside this run" in error.message
    assert "add kinetic-flows to the project's dependencies" in error.hint


def test_the_packages_own_modules_that_no_run_needs_are_missing_with_the_remedy(
    tmp_path: Path, bare_python: Path
) -> None:
    source = "def main():\n import kinetic_flows.runs.settle"
    job = run_on(bare_python, tmp_path, source)
    assert job.envelope().header.type_name == "ModuleNotFoundError"
    assert "add kinetic-flows to the project's dependencies" in job.variables["seen"]
