"""Every command that the product prints can be pasted: it exists, and takes what stands there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from cyclopts import App, CycloptsError
from cyclopts.exceptions import MissingArgumentError
from prefect.cli._app import _app as prefect_app

from kinetic_flows.cli.commands import app
from printed_commands import PLACEHOLDER, Printed, printed_commands

GCLOUD: Mapping[str, Sequence[str]] = {
    "artifacts repositories add-iam-policy-binding": (
        "--location",
        "--project",
        "--member",
        "--role",
    ),
    "artifacts repositories create": ("--repository-format", "--location", "--project"),
    "auth application-default login": (),
    "billing accounts list": (),
    "billing projects link": ("--billing-account",),
    "compute reservations list": ("--project",),
    "container clusters list": ("--project",),
    "container clusters update": ("--location", "--project"),
    "container node-pools delete": ("--cluster", "--location", "--project"),
    "container operations list": ("--location", "--project"),
    "container clusters upgrade": ("--master", "--location", "--project"),
    "iam service-accounts add-iam-policy-binding": ("--project", "--member", "--role"),
    "iam service-accounts enable": ("--project",),
    "projects add-iam-policy-binding": ("--member", "--role"),
    "projects list": (),
    "projects remove-iam-policy-binding": ("--member", "--role"),
    "projects undelete": (),
    "secrets add-iam-policy-binding": ("--project", "--member", "--role"),
    "services enable": ("--project",),
    # Of buckets, tests/unit/test_google_errors.py says more.
    "storage buckets add-iam-policy-binding": ("--member", "--role"),
    "storage buckets create": ("--uniform-bucket-level-access",),
    "storage ls": ("--project",),
}
"""What each command of gcloud must be given, so that it does not depend on whose it is.

https://cloud.google.com/sdk/gcloud/reference
"""

KUBECTL: Mapping[str, Sequence[str]] = {
    "apply": ("-f",),
    "create clusterrolebinding": ("--clusterrole", "--user"),
    "create namespace": (),
    "create role ": ("--namespace", "--verb", "--resource"),
    "create rolebinding": ("--namespace", "--role", "--user"),
    "create secret generic": ("--from-literal",),
    "create serviceaccount": ("--namespace",),
    "delete job": ("--namespace",),
    "delete secret": ("--namespace",),
    "describe localqueue": ("--namespace",),
    "describe pod": ("--namespace",),
    "describe pvc": ("--namespace",),
    "exec": ("--namespace",),
    "get computeclasses": (),
    "get pvc": ("--namespace",),
    "get workloads": ("--namespace",),
    "logs": ("--namespace",),
    "patch job": ("--namespace", "--type", "-p"),
    "scale": ("--namespace", "--replicas"),
    "version": (),
}
"""What each command of kubectl must be given."""

MENTIONED = {
    "gcloud container clusters get-credentials",
    "kubectl delete pod",
    "prefect block register -m kinetic_flows.blocks",
    "prefect cloud login",
    "prefect deploy",
    "prefect worker start",
    "prefect worker start --type",
}
"""Commands that are talked about: nobody is told to paste them."""

COMMANDS = printed_commands()


def _of(program: str) -> list[Any]:
    return [
        pytest.param(each, id=f"{each.where}: {each.text}")
        for each in COMMANDS
        if each.words[0] == program and each.text not in MENTIONED and not _is_a_name(each)
    ]


def _is_a_name(printed: Printed) -> bool:
    """Whether a page merely talks about a command of others, as about `kubectl logs`."""
    is_of_others = printed.words[0] in ("gcloud", "kubectl")
    in_prose = printed.where.endswith(".md") and not printed.is_whole
    return is_of_others and in_prose and len(printed.words) == 2


def _parse(application: App, words: Sequence[str], *, is_whole: bool) -> None:
    """Have a command line parsed by the application that it is for.

    Raises:
        CycloptsError: It is none of its command lines. One that is not whole may lack something.
    """
    try:
        application.parse_args([*words], print_error=False, exit_on_error=False)
    except MissingArgumentError:
        if is_whole:
            raise


@pytest.mark.parametrize("printed", _of("kinetic"))
def test_our_commands_exist_and_take_their_options(printed: Printed) -> None:
    words = [*printed.words[1:]]
    _parse(app, words, is_whole=printed.is_whole)
    if words[:1] == ["prefect"] and len(words) > 1:
        run_id = "0b8d6c1e-5a43-4a3c-9d5f-1f1a0d2c3b4e"
        asked = [run_id if word in ("ID", PLACEHOLDER) else word for word in words[1:]]
        _parse(prefect_app, asked, is_whole=printed.is_whole)
    if words[:2] == ["worker", "start"]:
        _parse(prefect_app, ["worker", "start", "--pool", *(words[2:] or ["x"])], is_whole=True)


def test_prefects_commands_are_printed_by_ours_or_behind_the_password() -> None:
    open_ones = [
        each
        for each in COMMANDS
        if each.words[0] == "prefect" and not each.is_let_in and each.text not in MENTIONED
    ]
    assert not open_ones, "with the background server these are refused: kinetic prefect ..."


@pytest.mark.parametrize("printed", _of("prefect"))
def test_prefects_commands_exist_and_take_their_options(printed: Printed) -> None:
    _parse(prefect_app, printed.words[1:], is_whole=printed.is_whole)


@pytest.mark.parametrize("printed", [*_of("gcloud"), *_of("kubectl")])
def test_commands_of_others_say_where_and_for_whom(printed: Printed) -> None:
    known = GCLOUD if printed.words[0] == "gcloud" else KUBECTL
    line = " ".join(printed.words[1:])
    needed = next((known[form] for form in known if line.startswith(form)), None)
    assert needed is not None, f"no known command: {printed.text}"
    given = {word.partition("=")[0] for word in printed.words}
    assert set(needed) <= given, f"{printed.text} lacks {sorted(set(needed) - given)}"


def test_commands_are_found_where_they_are_printed() -> None:
    """A pattern that has come to match nothing would let everything pass."""
    found = {each.text for each in COMMANDS}
    assert {
        "kinetic run train.py:train --rate 0.1",
        f"kinetic worker start {PLACEHOLDER}",
        "kinetic prefect deploy --prefect-file deployments/prefect.yaml --all",
        "kinetic runs cleanup",
        "prefect flow-run ls",
        "kubectl apply -f -",
        "gcloud auth application-default login",
    } <= found
    assert len(found) > 120


@pytest.mark.parametrize(
    ("words", "lacks"),
    [(["runs", "lst"], "lst"), (["runs", "ls", "--limits", "3"], "--limits"), (["ru"], "ru")],
)
def test_a_command_that_does_not_exist_is_noticed(words: list[str], lacks: str) -> None:
    with pytest.raises(CycloptsError, match=lacks):
        _parse(app, words, is_whole=True)
