"""The work of setting up as it is shown, stopped half way, and agreed to."""

from __future__ import annotations

import os

import pytest

from kinetic_flows.cli.setup.first_run import run_first_function
from kinetic_flows.cli.setup.options import SetupOptions
from kinetic_flows.cli.setup.work import ShownSteps, require_agreement, told_if_interrupted
from kinetic_flows.core.errors import KineticError, RunFailed, UsageError
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.platforms.gke.setup.model import Step


class Steps(NullProgress):
    def __init__(self):
        self.told: list[tuple[str, ...]] = []

    def step(self, name, status, detail=""):
        self.told.append((name, status, detail))

    def activity(self, name, text):
        self.told.append((name, text))


def step(name, state, text=""):
    return Step(kind="node pool", name=name, state=state, text=text)


def test_steps_are_shown_as_those_of_a_call():
    progress = Steps()
    shown = ShownSteps(progress=progress, total=1, verb="done")
    for state, text in (("begun", ""), ("going", "40 %"), ("done", "")):
        shown(step("l4", state, text))
    assert progress.told == [
        ("node pool l4", "started", ""),
        ("node pool l4", "40 %"),
        ("node pool l4", "done", ""),
    ]


def test_an_interruption_is_told_in_a_line_with_what_was_done_and_how_to_go_on(capsys):
    shown = ShownSteps(progress=NullProgress(), total=5, verb="done")
    for each in (step("a", "begun"), step("a", "done"), step("b", "begun")):
        shown(each)
    with (
        pytest.raises(KeyboardInterrupt),
        told_if_interrupted(shown, "kinetic init --project my-project"),
    ):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == (
        "kinetic: Ctrl-C: 1 of 5 things done, node pool b begun; "
        "`kinetic init --project my-project` goes on from here\n"
    )


def test_a_failure_is_no_interruption(capsys):
    shown = ShownSteps(progress=NullProgress(), total=5, verb="done")
    with pytest.raises(KineticError), told_if_interrupted(shown, "kinetic up"):
        raise KineticError("no")
    assert capsys.readouterr().err == ""


def test_yes_asks_nobody_and_without_it_a_pipe_is_refused():
    require_agreement("Do it?", "nothing was set up", yes=True)
    with pytest.raises(UsageError, match="nothing was set up: it has to be confirmed"):
        require_agreement("Do it?", "nothing was set up", yes=False)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"zone": "here"}, "--zone is 'here'"),
        ({"work_pool": ""}, "--work-pool is ''"),
        ({"machine_type": "big"}, "--machine-type is 'big'"),
        ({"member": ("alice",)}, "--member is 'alice'"),
        ({"reservation": "mine"}, "--reservation is of the nodes of --accelerator"),
        ({"accelerator": ("l4",), "autopilot": True}, "Autopilot clusters have none"),
        ({"accelerator": ("l4",), "join": True}, "--join leaves a cluster as it is"),
        ({"machine_type": "e2-standard-8", "join": True}, "--machine-type is of one that is made"),
        ({"accelerator": ("l9",)}, "l9"),
    ],
)
def test_options_that_cannot_be_are_refused_before_google_is_asked(options, told):
    with pytest.raises(KineticError, match=told) as caught:
        SetupOptions(**options).check()
    assert caught.value.hint
    assert caught.value.value is not None


def test_members_are_written_as_iam_does():
    for member in (
        "user:alice@example.com",
        "group:ml@example.com",
        "serviceAccount:ci@my-project.iam.gserviceaccount.com",
    ):
        SetupOptions(member=(member,)).check()


def test_what_is_not_said_sets_nothing():
    assert SetupOptions().values() == {}
    assert SetupOptions(project="my-project", retention_days=3).values() == {
        "project": "my-project",
        "retention_days": 3,
    }


def test_a_first_run_that_fails_says_that_all_is_set_up_and_what_looks_further(capfd):
    environ = {**os.environ, "KINETIC_PROGRESS": "loud"}
    with pytest.raises(RunFailed, match="everything is set up") as caught:
        run_first_function("alice", environ, as_json=True)
    assert "kinetic doctor" in (caught.value.hint or "")
    assert "KINETIC_PROGRESS" in capfd.readouterr().err
