"""The questions of `kinetic init`: what is offered first, what is asked besides, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import PipeInput, create_pipe_input

from kinetic_flows.cli import questions
from kinetic_flows.cli.setup.options import SetupOptions
from kinetic_flows.cli.setup.questions import (
    ask_cluster,
    ask_prefect,
    ask_prefect_login,
    ask_project,
)
from kinetic_flows.cli.setup.work import require_agreement
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.settings.cloud import CloudSettings, resolve_cloud
from kinetic_flows.platforms.gke.setup.clusters.cluster import FoundCluster
from kinetic_flows.platforms.gke.setup.survey import FoundProject

ENTER, DOWN, CTRL_C = "\r", "\x1b[B", "\x03"
NOTHING = SetupOptions()


@pytest.fixture
def keys() -> Iterator[PipeInput]:
    """The keyboard; what is shown goes where standard output leads."""
    with create_pipe_input() as keys, create_app_session(input=keys):
        yield keys


def used(**said: str) -> CloudSettings:
    return resolve_cloud(arguments={"project": "my-project", **said}, environ={}, profile=None)


def a_cluster(name: str, zone: str = "us-central1-a", *, is_ours: bool = True) -> FoundCluster:
    return FoundCluster(
        name=name,
        location=zone,
        mode="standard",
        status="RUNNING",
        version="1.33.1-gke.1",
        is_made_here=is_ours,
        nodes=1,
        pools=(),
        network="default",
        private_nodes=False,
        machine_type="e2-standard-4",
        max_nodes=4,
        lacks=(),
    )


def test_the_cluster_in_use_is_offered_first_whoever_made_it(keys: PipeInput) -> None:
    clusters = [a_cluster("ours"), a_cluster("shared", "europe-west4-a", is_ours=False)]
    keys.send_text(ENTER)
    chosen = ask_cluster(clusters, NOTHING, used(cluster="shared", zone="europe-west4-a"))
    assert (chosen.cluster, chosen.zone, chosen.join) == ("shared", "europe-west4-a", True)


def test_what_was_made_here_is_offered_before_anything_is_made(keys: PipeInput) -> None:
    clusters = [a_cluster("a", is_ours=False), a_cluster("ours", "europe-west4-a")]
    keys.send_text(ENTER)
    chosen = ask_cluster(clusters, NOTHING, used())
    assert (chosen.cluster, chosen.zone, chosen.join) == ("ours", "europe-west4-a", False)


def test_a_new_cluster_is_asked_for_its_name_where_the_usual_one_is_taken(keys: PipeInput) -> None:
    clusters = [a_cluster("kinetic-cluster"), a_cluster("kinetic-cluster-2")]
    keys.send_text(DOWN + DOWN + ENTER + ENTER)
    chosen = ask_cluster(clusters, NOTHING, used())
    assert (chosen.cluster, chosen.autopilot, chosen.join) == ("kinetic-cluster-3", False, False)


def test_a_new_cluster_has_the_usual_name_where_it_is_free(keys: PipeInput) -> None:
    keys.send_text(ENTER)
    chosen = ask_cluster([], NOTHING, used())
    assert (chosen.cluster, chosen.zone, chosen.autopilot) == (None, "us-central1-a", False)


def test_a_key_is_not_shown(keys: PipeInput, capsys: pytest.CaptureFixture[str]) -> None:
    keys.send_text(f"{ENTER}pnu_0123456789{ENTER}")
    asked = ask_prefect_login("https://prefect.example/api")
    assert asked == ("https://prefect.example/api", "pnu_0123456789")
    shown = "".join(capsys.readouterr())
    assert "API key" in shown
    assert "pnu" not in shown


@pytest.mark.parametrize(
    "ask",
    [
        lambda: ask_project([], "my-project"),
        lambda: ask_project([FoundProject(id="my-project")], None),
        lambda: ask_cluster([], NOTHING, used()),
        lambda: ask_prefect("machine"),
        lambda: ask_prefect_login(""),
        lambda: require_agreement("Do it?", "nothing was set up", yes=False),
    ],
)
def test_ctrl_c_at_a_question_is_no_answer(
    keys: PipeInput, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], object]
) -> None:
    monkeypatch.setattr(questions, "is_terminal", lambda: True)
    keys.send_text(CTRL_C)
    with pytest.raises(KeyboardInterrupt):
        ask()


def test_declined_is_an_error_of_code_1_and_not_asked_on_standard_output(
    keys: PipeInput, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(questions, "is_terminal", lambda: True)
    keys.send_text("n")
    with pytest.raises(KineticError, match="nothing was set up") as caught:
        require_agreement("Do it?", "nothing was set up", yes=False)
    assert caught.value.exit_code == 1
    shown = capsys.readouterr()
    assert "Do it?" in shown.err
    assert shown.out == ""
