"""Names that other people's programs, stored objects and deployments have of this product stay."""

from __future__ import annotations

import base64
import inspect
import io
import json
import pickle
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast, get_type_hints

import cloudpickle  # type: ignore[import-untyped]
import pytest
from prefect.flows import load_flow_from_entrypoint

import kinetic
from kinetic import Run, RunFailed, RunGroup
from kinetic_flows.core.envelope import open_result
from kinetic_flows.core.job_reading import read_job
from old_pickles import described, names_in
from what_stays import KEY, RUN, collected

CORPUS = Path(__file__).parent.parent / "corpus" / "what_stays"
NAMES: Mapping[str, Mapping[str, Any]] = json.loads((CORPUS / "names.json").read_text())
PICKLES: Mapping[str, Mapping[str, Any]] = json.loads((CORPUS / "pickles.json").read_text())
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ADD = "add it: python tests/corpus/what_stays/write.py names"


@pytest.fixture(autouse=True)
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CORPUS))
    monkeypatch.delitem(sys.modules, "remote_example", raising=False)


def _differences(section: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    gone = [
        f"{section}: {name}{_of(before[name])} is gone, and somebody uses it: bring it back"
        for name in sorted(before.keys() - now.keys())
    ]
    changed = [
        f"{section}: {name} was {before[name]}, and is {now[name]}: somebody counts on what it was"
        for name in sorted(before.keys() & now.keys())
        if before[name] != now[name]
    ]
    new = [
        f"{section}: {name}{_of(now[name])} is new; if it is to be there, {ADD}"
        for name in sorted(now.keys() - before.keys())
    ]
    return gone + changed + new


def _of(value: Any) -> str:
    return "" if value == "" else f" ({value})"


@pytest.mark.parametrize("section", sorted(NAMES))
def test_names_stay(section: str) -> None:
    differences = _differences(section, NAMES[section], collected().get(section, {}))
    assert not differences, "\n".join(["", *differences])


def test_every_section_is_held() -> None:
    assert collected().keys() == NAMES.keys(), ADD


def test_what_differs_is_told_in_a_sentence() -> None:
    gone, changed, new = _differences("names", {"a": 1, "b": 2}, {"b": 3, "c": 4})
    assert gone == "names: a (1) is gone, and somebody uses it: bring it back"
    assert changed == "names: b was 2, and is 3: somebody counts on what it was"
    assert new.startswith("names: c (4) is new; if it is to be there, add it: python tests/corpus/")


def test_a_stored_job_is_read() -> None:
    stored = NAMES["job and result"]["job"].encode()
    assert read_job(stored).to_json() == stored


def test_a_stored_result_is_read() -> None:
    envelope = open_result(NAMES["job and result"]["envelope"].encode(), KEY, RUN)
    assert (envelope.header.status, envelope.header.exit_code) == ("crashed", -9)
    assert envelope.body == b"body"


@pytest.mark.parametrize("entrypoint", NAMES["deployments of our flows"].values())
def test_what_stands_in_deployments_is_a_flow(entrypoint: str) -> None:
    flow = load_flow_from_entrypoint(entrypoint)
    assert f"flow {flow.name}" in NAMES["flows and tasks"]


@pytest.mark.parametrize("path", (CORPUS / "paths.txt").read_text().split())
def test_what_is_named_by_its_path_is_there(path: str) -> None:
    module, _, name = path.partition(":")
    found = import_module(module)
    assert not name or hasattr(found, name)


def _pickled(name: str) -> bytes:
    return base64.b64decode(PICKLES[name]["data"])


def _is_kept(before: Any, now: Any) -> bool:
    """Whether something has all that it had, and perhaps more."""
    if isinstance(before, dict):
        return all(name in now and _is_kept(before[name], now[name]) for name in before)
    if isinstance(before, list):
        return len(before) == len(now) and all(map(_is_kept, before, now))
    return bool(before == now)


@pytest.mark.parametrize("name", sorted(PICKLES))
def test_a_pickle_of_an_earlier_version_names_what_is_there(name: str) -> None:
    assert names_in(_pickled(name)) == PICKLES[name]["names"]
    for each in PICKLES[name]["names"]:
        module, _, found = each.partition(":")
        assert hasattr(import_module(module), found), f"a stored pickle names {each}, which is gone"


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in sorted(PICKLES)
        if name != "group" and PICKLES[name].get("python", PYTHON) == PYTHON
    ],
)
def test_a_pickle_of_an_earlier_version_has_what_was_in_it(name: str) -> None:
    value = pickle.loads(_pickled(name))
    now = described(value)
    assert _is_kept(PICKLES[name]["holds"], now), f"{PICKLES[name]['holds']} has become {now}"
    again = described(pickle.loads(cloudpickle.dumps(value)))
    assert again == now, "what was read can be kept again"


def test_handles_of_an_earlier_version_are_those_of_this_one() -> None:
    assert type(pickle.loads(_pickled("run"))) is Run
    assert type(pickle.loads(_pickled("error RunFailed"))) is RunFailed


@pytest.mark.parametrize("name", [name for name in kinetic.__all__ if name[:1].isupper()])
def test_public_classes_say_that_they_are_in_the_package_that_people_import(name: str) -> None:
    kind = getattr(kinetic, name)
    assert (kind.__module__, kind.__qualname__) == ("kinetic", name)
    assert pickle.loads(pickle.dumps(kind)) is kind
    assert get_type_hints(kind).keys() >= getattr(kind, "__annotations__", {}).keys()


@pytest.mark.parametrize("name", [name for name in PICKLES if name.startswith("error ")])
def test_errors_are_pickled_under_names_that_an_earlier_version_has(name: str) -> None:
    error = pickle.loads(_pickled(name))
    known = {*PICKLES[name]["names"], f"kinetic:{type(error).__name__}"}
    if type(error).__module__ in ("kinetic", "kinetic_flows.errors"):
        assert set(names_in(pickle.dumps(error))) <= known


def test_a_function_of_an_earlier_version_is_called() -> None:
    function = pickle.loads(_pickled("function, decorated elsewhere"))
    assert (function.fn(5), function.options.accelerator) == (15, "cpu")


class _Uncalled(pickle.Unpickler):
    """Reads what a pickle calls, and with what, without calling it."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        return partial(partial, super().find_class(module_name, global_name))


def test_a_group_of_an_earlier_version_is_attached_to_as_one_of_this_version() -> None:
    call = _Uncalled(io.BytesIO(_pickled("group"))).load()
    inspect.signature(call.func).bind(*call.args)
    group: RunGroup[Any] = RunGroup(
        id=RUN,
        name="train",
        url="",
        source=cast("Any", None),
        cloud={"project": "my-project", "cluster": "training"},
        return_exceptions=True,
    )
    assert group.__reduce__() == (call.func, call.args)
