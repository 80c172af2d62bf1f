"""Our own flows and tasks under other people's Prefect defaults."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from prefect import Flow, Task
from prefect.cache_policies import NO_CACHE
from prefect.settings import Settings, get_current_settings, temporary_settings
from pydantic import BaseModel

import kinetic
import kinetic_flows.flows
from kinetic_flows.flows.defaults import OWN_SETTINGS, own_settings, own_task

NOT_OF_FLOWS = {
    "results.local_storage_path": "each of our flows names its own storage",
    "tasks.runner.process_pool_max_workers": "our tasks run in threads",
    "tasks.scheduling.default_storage_block": "our tasks are not served",
    "tasks.scheduling.delete_failed_submissions": "our tasks are not served",
    "logging.level": "our steps have a logger with a level of its own",
    "logging.config_path": "how the console looks is the person's",
    "logging.extra_loggers": "which other loggers are sent is the person's",
    "logging.colors": "how the console looks is the person's",
    "logging.markup": "how the console looks is the person's",
    "logging.to_api.enabled": "whether anything is sent is the person's",
    "logging.to_api.batch_interval": "how it is sent is the person's",
    "logging.to_api.batch_size": "how it is sent is the person's",
    "logging.to_api.max_log_size": "how it is sent is the person's",
}

THEIRS: dict[str, Any] = {
    "flows.default_retries": 3,
    "flows.default_retry_delay_seconds": 7,
    "tasks.default_retries": 3,
    "tasks.default_retry_delay_seconds": 7,
    "tasks.default_persist_result": True,
    "tasks.default_no_cache": True,
    "tasks.disable_caching": True,
    "tasks.refresh_cache": True,
    "tasks.runner.thread_pool_max_workers": 1,
    "results.persist_by_default": True,
    "results.default_serializer": "json",
    "results.default_storage_block": "local-file-system/theirs",
    "logging.log_prints": True,
    "logging.to_api.when_missing_flow": "error",
    "flows.heartbeat_frequency": 60,
}


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if inspect.isclass(kind) and issubclass(kind, BaseModel):
            yield from _paths(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_default_of_prefect_for_flows_and_tasks_is_known() -> None:
    groups = ("flows.", "tasks.", "results.", "logging.")
    there = {path for path in _paths(Settings) if path.startswith(groups)}
    assert there == {*OWN_SETTINGS, *NOT_OF_FLOWS}
    assert OWN_SETTINGS.keys() == THEIRS.keys()


def test_peoples_defaults_do_not_reach_our_flows_and_are_theirs_again_afterwards() -> None:
    def read(path: str) -> Any:
        value: Any = get_current_settings()
        for part in path.split("."):
            value = getattr(value, part)
        return value

    with temporary_settings(THEIRS):
        with own_settings():
            assert {path: read(path) for path in OWN_SETTINGS} == OWN_SETTINGS
        assert {path: read(path) for path in THEIRS} == THEIRS


def _key(_context: Any, parameters: dict[str, Any]) -> str:
    return str(parameters["value"])


def test_a_task_of_ours_is_the_same_under_anybodys_defaults() -> None:
    def double(value: int) -> int:
        return 2 * value

    with temporary_settings(THEIRS):
        cached, plain = own_task("cached", cached_by=_key)(double), own_task("plain")(double)
    assert (cached.retries, cached.persist_result, cached.log_prints) == (0, True, False)
    assert cached.cache_policy.cache_key_fn is _key  # type: ignore[union-attr]
    assert (plain.retries, plain.persist_result) == (0, False)
    assert plain.cache_policy == NO_CACHE
    with own_settings():
        assert cached.with_options(refresh_cache=True).cache_policy is cached.cache_policy


def test_no_flow_or_task_of_ours_leaves_a_default_open() -> None:
    found = 0
    for module in pkgutil.iter_modules(kinetic_flows.flows.__path__, "kinetic_flows.flows."):
        for each in vars(import_module(module.name)).values():
            if isinstance(each, Flow | Task):
                found += 1
                assert each.log_prints is False, each.name
                assert each.persist_result is not None, each.name
                assert each.retries == 0, each.name
    assert found


def test_a_remote_function_as_a_flow_is_launched_once() -> None:
    with temporary_settings(THEIRS):
        assert kinetic.run(lambda: None).as_flow().retries == 0
