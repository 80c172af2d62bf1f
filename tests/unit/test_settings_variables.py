"""Variables that begin like a setting and are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinetic_flows.cli.main import main
from kinetic_flows.core.settings.settings import unknown_settings
from kinetic_flows.core.settings.variables import tell_once

NAMES = Path(__file__).parents[1] / "corpus" / "what_stays" / "names.json"


def test_a_misspelt_variable_is_named_with_the_one_that_was_probably_meant() -> None:
    (said,) = unknown_settings({"KINETIC_PROJCT": "mine", "KINETIC_ZONE": "us-central1-a"})
    assert said == "KINETIC_PROJCT is set and is no setting: did you mean KINETIC_PROJECT?"


def test_a_variable_like_no_other_is_named_with_where_they_stand() -> None:
    (said,) = unknown_settings({"KINETIC_GULL": "2"})
    assert said == "KINETIC_GULL is set and is no setting: `kinetic config` shows those there are"


def test_every_variable_of_the_product_is_known() -> None:
    ours = json.loads(NAMES.read_text())["environment variables"]
    assert unknown_settings(dict.fromkeys(ours, "")) == []


def test_what_kubernetes_tells_of_a_service_is_nobodys_mistake() -> None:
    service = ["KINETIC_UI_SERVICE_HOST", "KINETIC_UI_PORT", "KINETIC_UI_PORT_80_TCP_ADDR"]
    assert unknown_settings(dict.fromkeys(service, "10.0.0.1")) == []


def test_each_thing_is_told_once_in_a_process() -> None:
    told: list[str] = []
    for _ in range(2):
        tell_once(["what only this test says"], told.append)
    assert told == ["what only this test says"]


def test_a_command_tells_of_it_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KINETIC_OUTPUT_DIRS", "/tmp/x")
    with pytest.raises(SystemExit):
        main(["config", "--json"])
    captured = capsys.readouterr()
    assert "KINETIC_OUTPUT_DIRS is set and is no setting" in captured.err
    assert json.loads(captured.out)["output_dir"]["value"] is None
