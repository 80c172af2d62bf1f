"""How the environment decides."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.settings.settings import (
    TRACKING,
    PlatformName,
    load_settings,
    process_environment,
    track_nobody,
)
from kinetic_flows.platforms.choose import PLATFORMS


def test_with_nothing_configured_functions_run_on_this_machine() -> None:
    settings = load_settings({})
    assert settings.platform == "local"
    assert not settings.platform_is_explicit
    assert settings.home == Path.home() / ".kinetic"


@pytest.mark.parametrize("variable", ["KINETIC_PROJECT", "KINETIC_PROFILE"])
def test_a_project_or_a_profile_means_google_cloud(variable: str) -> None:
    assert load_settings({variable: "mine"}).platform == "gke"


def test_googles_own_project_variable_alone_changes_nothing() -> None:
    settings = load_settings({"GOOGLE_CLOUD_PROJECT": "mine"})
    assert (settings.platform, settings.project) == ("local", None)


def test_googles_own_project_variable_fills_in_when_gke_was_chosen() -> None:
    settings = load_settings({"KINETIC_PLATFORM": "gke", "GOOGLE_CLOUD_PROJECT": "mine"})
    assert settings.project == "mine"


def test_an_explicit_platform_beats_a_project() -> None:
    settings = load_settings({"KINETIC_PLATFORM": "LOCAL", "KINETIC_PROJECT": "mine"})
    assert (settings.platform, settings.platform_is_explicit) == ("local", True)


def test_every_platform_that_can_be_named_is_there() -> None:
    assert set(get_args(PlatformName)) == PLATFORMS.keys()


@pytest.mark.parametrize(
    ("variable", "value", "hint"),
    [
        ("KINETIC_PLATFORM", "gek", "did you mean 'gke'"),
        ("KINETIC_HOME", "relative/path", "absolute"),
        ("KINETIC_QUIET", "maybe", "1 or 0"),
        ("KINETIC_MAX_CODE_SIZE_MB", "2GB", "whole number of megabytes"),
        ("KINETIC_MAX_CODE_SIZE_MB", "0", "whole number of megabytes"),
    ],
)
def test_a_malformed_value_is_refused_with_its_variable(
    variable: str, value: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings({variable: value})
    assert variable in caught.value.message
    assert caught.value.value == value
    assert hint in (caught.value.hint or "")


def test_an_empty_variable_counts_as_unset() -> None:
    assert load_settings({"KINETIC_PROJECT": "", "KINETIC_QUIET": ""}).platform == "local"


@pytest.mark.parametrize(
    ("chosen", "value"),
    [({}, "1"), ({"DO_NOT_TRACK": "0"}, "0"), ({"PREFECT_SERVER_ANALYTICS_ENABLED": "1"}, None)],
)
def test_prefect_tells_nobody_unless_the_person_has_chosen(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], value: str | None
) -> None:
    for name in TRACKING:
        monkeypatch.delenv(name, raising=False)
    for name, text in chosen.items():
        monkeypatch.setenv(name, text)
    track_nobody()
    assert process_environment().get("DO_NOT_TRACK") == value
