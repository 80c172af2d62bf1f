"""What is used of other projects without their promise is still there, and what it was."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from functools import reduce
from importlib import import_module
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import kinetic_flows
from kinetic_flows.clients.prefect.internals import WORKERS_VIEW

ROOT = Path(kinetic_flows.__file__).parents[1]
UPSTREAM = (ROOT / "docs/upstream.md").read_text(encoding="utf-8")


def parameters(function: Any) -> Iterable[str]:
    return inspect.signature(function).parameters


def source(module: str) -> str:
    return inspect.getsource(import_module(module))


WORKER = "prefect_kubernetes.worker.KubernetesWorkerJobConfiguration"
NAMES: dict[str, tuple[str, Callable[[Any], object]]] = {
    # name: the distribution it belongs to, and what has to be true of it
    f"{WORKER}._base_environment": ("prefect-kubernetes", lambda f: not parameters(f)),
    f"{WORKER}._base_flow_run_environment": (
        "prefect-kubernetes",
        lambda f: list(parameters(f)) == ["flow_run"],
    ),
    f"{WORKER}._base_attribution_environment": ("prefect-kubernetes", callable),
    f"{WORKER}._configure_eviction_handling": (
        "prefect-kubernetes",
        lambda f: list(parameters(f)) == ["self"],
    ),
    "prefect.results.ResultStore.update_for_flow": (
        "prefect",
        lambda f: "_sync" in source("prefect._internal.compatibility.async_dispatch"),
    ),
    "prefect.server.api.server.create_app": ("prefect", lambda f: "final" in parameters(f)),
    "prefect.client.base.PrefectHttpxSyncClient": (
        "prefect",
        lambda _: 'response.headers["Retry-After"]' in source("prefect.client.base"),
    ),
    "prefect.logging.handlers.APILogWorker": (
        "prefect",
        lambda _: "logging.raiseExceptions" in source("prefect.logging.handlers"),
    ),
    "prefect.events.worker.EventsWorker._instances": ("prefect", lambda kept: kept is not None),
    "prefect.events.worker.EventsWorker._stop": (
        "prefect",
        lambda f: "self._remove_instance()" in inspect.getsource(f),
    ),
    "prefect.events.worker.EventsWorker._lifespan": (
        "prefect",
        lambda f: "self._client = self.client_type(" in inspect.getsource(f),
    ),
    "prefect.events.clients.PrefectEventsClient": (
        "prefect",
        lambda kind: "self._api_url = api_url" in inspect.getsource(kind),
    ),
    "prefect._internal.concurrency.logger.name": (
        "prefect",
        lambda name: name == "prefect._internal.concurrency",
    ),
    "kubernetes_asyncio.client.ApiClient.update_params_for_auth": (
        "kubernetes-asyncio",
        lambda f: {"headers", "auth_settings"} <= set(parameters(f)),
    ),
    "prefect.server.api.collections.KNOWN_VIEWS": ("prefect", lambda views: WORKERS_VIEW in views),
    "prefect.server.api.collections.get_collection_view": (
        "prefect",
        # Which address is asked, and what is read when that fails.
        lambda f: {"KNOWN_VIEWS", "__file__"} <= set(f.__code__.co_names),
    ),
    "kubernetes_asyncio.client.rest.RESTClientObject.request": (
        "kubernetes-asyncio",
        lambda f: {"_preload_content", "_request_timeout"} <= set(parameters(f)),
    ),
    "kubernetes_asyncio.client.rest.RESTClientObject.__init__": (
        "kubernetes-asyncio",
        lambda f: {"pool_manager", "proxy", "proxy_headers"} <= set(f.__code__.co_names),
    ),
    "kubernetes_asyncio.client.Configuration": (
        "kubernetes-asyncio",
        lambda kind: hasattr(kind(), "connection_pool_maxsize"),
    ),
    "google.cloud.client.ClientWithProject": (
        "google-cloud-storage",
        lambda _: isinstance(
            inspect.getattr_static(import_module("google.cloud.client").Client, "_http"), property
        ),
    ),
    "cloudpickle.cloudpickle._extract_code_globals": (
        "cloudpickle",
        lambda f: list(f((lambda: version).__code__)) == ["version"],
    ),
    "cloudpickle.cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID": (
        "cloudpickle",
        lambda tracker: hasattr(tracker, "__contains__"),
    ),
    "cloudpickle.cloudpickle._make_skeleton_class": (
        "cloudpickle",
        lambda f: list(parameters(f))[-2] == "class_tracker_id",
    ),
    "cloudpickle.cloudpickle._make_skeleton_enum": (
        "cloudpickle",
        lambda f: list(parameters(f))[-2] == "class_tracker_id",
    ),
    "cloudpickle.cloudpickle._class_setstate": ("cloudpickle", callable),
    "functools._lru_cache_wrapper": ("python", lambda kind: isinstance(kind, type)),
    "threading.Semaphore": ("python", lambda kind: kind(3)._value == 3),
    "logging._handlerList": ("python", lambda found: isinstance(found, list)),
    "logging._handlers": ("python", lambda found: hasattr(found, "setdefault")),
    "threading.BoundedSemaphore": ("python", lambda kind: kind(3)._initial_value == 3),
}


def found(name: str) -> Any:
    """Return what a dotted name leads to, importing as far as there are modules."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            module = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[count:], module)
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_promised_is_still_there(name: str) -> None:
    distribution, holds = NAMES[name]
    release = "" if distribution == "python" else f" {version(distribution)}"
    advice = f"see docs/upstream.md for what {name} is used for, and change what uses it"
    try:
        value = found(name)
    except (AttributeError, ModuleNotFoundError) as error:
        pytest.fail(f"{distribution}{release} has no {name} any more ({error}): {advice}")
    assert holds(value), f"{name} of {distribution}{release} is not what it was: {advice}"


@pytest.mark.parametrize(
    "distribution", sorted({owner for owner, _ in NAMES.values()} - {"python"})
)
def test_what_is_not_promised_is_bounded_and_explained(distribution: str) -> None:
    declared = map(Requirement, requires("kinetic-flows") or ())
    bounds = {each.name: each for each in declared}
    operators = {each.operator for each in bounds[distribution].specifier}
    assert "<" in operators, f"{distribution} needs an upper bound in pyproject.toml"
    assert distribution in UPSTREAM


def test_only_the_files_for_it_use_private_names_of_others() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"SLF"' in text.partition("per-file-ignores")[0], "ruff looks for private names no more"
    exempt = re.findall(r'^"(.*)" = \[.*"SLF".*\]$', text, re.MULTILINE)
    assert set(exempt) == {"tests/**", "benchmarks/**", "**/internals.py"}
