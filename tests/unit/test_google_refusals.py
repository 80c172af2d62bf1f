"""What Google's APIs refuse becomes an error that names what is missing and what mends it."""

from __future__ import annotations

import json
import pickle

import pytest
import requests
from google.api_core.exceptions import (
    GoogleAPICallError,
    RetryError,
    from_grpc_status,
    from_http_response,
)
from google.auth.exceptions import DefaultCredentialsError, RefreshError
from google.rpc import error_details_pb2

from kinetic_flows.clients.deadlines import DeadlineExceeded
from kinetic_flows.clients.google.operations import failure
from kinetic_flows.clients.google.refusals import (
    CloudRefusal,
    Reason,
    refusal,
    role_with,
    translated,
)
from kinetic_flows.core.errors import CloudError, ConfigurationError
from loopback.google import answers
from loopback.google.answers import Code, GoogleRefusal

PROJECT = "my-project"


def by_grpc(refused: GoogleRefusal) -> GoogleAPICallError:
    """Return what Google's gRPC clients raise."""
    infos = [d for d in refused.details if isinstance(d, error_details_pb2.ErrorInfo)]
    error: GoogleAPICallError = from_grpc_status(
        refused.code, str(refused), details=refused.details, error_info=next(iter(infos), None)
    )
    return error


def by_rest(refused: GoogleRefusal) -> GoogleAPICallError:
    """Return what Google's clients raise for an answer by REST."""
    answer = requests.Response()
    answer.status_code = refused.http
    answer._content = json.dumps(refused.document()).encode()
    answer.request = requests.Request("GET", "https://compute.googleapis.com/x").prepare()
    error: GoogleAPICallError = from_http_response(answer)
    return error


CASES: list[tuple[GoogleRefusal, Reason, str | None, str]] = [
    (
        answers.api_off("container", "123"),
        "api-off",
        "container.googleapis.com",
        "gcloud services enable container.googleapis.com --project=123",
    ),
    (
        answers.no_permission("container.clusters.create", "projects/my-project"),
        "permission",
        "container.clusters.create",
        "--member=user:YOU --role=roles/container.admin",
    ),
    (
        answers.no_billing("123", "compute.googleapis.com"),
        "billing",
        None,
        "gcloud billing projects link my-project --billing-account=ACCOUNT",
    ),
    (
        answers.cluster_quota("CPUS", 100, 72, PROJECT),
        "quota",
        "CPUS",
        "https://console.cloud.google.com/iam-admin/quotas?project=my-project",
    ),
    (answers.stock_out("us-central1-a"), "stock-out", None, "try another zone"),
    (answers.busy_cluster("operation-1"), "busy", None, "when that is over"),
    (
        answers.policy_violated("compute.vmExternalIpAccess", PROJECT),
        "policy",
        "compute.vmExternalIpAccess",
        "the organisation's policies",
    ),
    (answers.stale_policy(), "conflict", None, "run the same again"),
    (answers.unauthenticated(), "login", None, "gcloud auth application-default login"),
    (
        GoogleRefusal(Code.UNAVAILABLE, "failed to connect to all addresses"),
        "unreachable",
        None,
        "check the network and the proxy",
    ),
    (GoogleRefusal(Code.INTERNAL, "An internal error has occurred"), "failed", None, "run"),
]


@pytest.mark.parametrize(
    ("refused", "reason", "subject", "hint"), CASES, ids=[case[1] for case in CASES]
)
@pytest.mark.parametrize("wire", [by_grpc, by_rest], ids=["grpc", "rest"])
def test_each_refusal_is_told_with_its_reason_its_subject_and_what_mends_it(
    refused: GoogleRefusal, reason: Reason, subject: str | None, hint: str, wire: object
) -> None:
    error = wire(refused)  # type: ignore[operator]

    told = translated(error, what="create cluster train", project=PROJECT)

    assert (told.reason, told.subject) == (reason, subject)
    assert told.message.startswith("cannot create cluster train: ")
    assert hint in (told.hint or "")
    assert "https://compute.googleapis.com/x" not in told.message


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (answers.missing("Not found: projects/p/x."), "missing"),
        (answers.taken("Already exists: projects/p/x."), "name-taken"),
        (answers.invalid("Cluster.initial_node_count must be greater than zero."), "invalid"),
    ],
)
def test_what_the_caller_has_to_judge_is_told_by_its_reason_and_googles_words(
    refused: GoogleRefusal, reason: Reason
) -> None:
    told = translated(by_grpc(refused), what="look", project=PROJECT)

    assert (told.reason, told.words, told.hint) == (reason, str(refused), None)


def test_the_permission_is_found_in_the_words_of_apis_that_name_it_there_only() -> None:
    words = "Required 'compute.routers.create' permission for 'projects/my-project'"
    told = translated(from_grpc_status(Code.PERMISSION_DENIED, words), what="x", project=PROJECT)
    older = 'Required "container.clusters.get" permission(s) for "projects/my-project".'
    also = translated(from_grpc_status(Code.PERMISSION_DENIED, older), what="x", project=PROJECT)

    assert told.subject == "compute.routers.create"
    assert "roles/compute.networkAdmin" in (told.hint or "")
    assert also.subject == "container.clusters.get"


def test_who_asked_stands_in_the_command_once_it_is_known() -> None:
    refused = answers.no_permission("storage.buckets.create", "projects/my-project")

    told = translated(by_grpc(refused), what="x", project=PROJECT, member="user:alice@example.com")

    assert "--member=user:alice@example.com --role=roles/storage.admin" in (told.hint or "")


def test_a_project_that_calls_may_not_count_for_is_the_one_to_grant_the_right_on() -> None:
    refused = GoogleRefusal(
        Code.PERMISSION_DENIED,
        "Caller does not have required permission to use project old-project.",
        answers.info("USER_PROJECT_DENIED", "googleapis.com", {"consumer": "projects/old-project"}),
    )

    told = translated(by_grpc(refused), what="x", project=PROJECT)

    assert (told.reason, told.subject) == ("permission", "serviceusage.services.use")
    assert (
        "add-iam-policy-binding old-project --member=user:YOU "
        "--role=roles/serviceusage.serviceUsageConsumer" in (told.hint or "")
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("Operation operation-1 is currently operating on cluster train. Please wait", "busy"),
        ("Operation operation-1 is currently upgrading cluster train. Please wait", "busy"),
        ("Labels could not be set due to fingerprint mismatch.", "conflict"),
    ],
)
def test_what_gke_says_by_its_words_alone_is_understood(words: str, reason: Reason) -> None:
    error = from_grpc_status(Code.FAILED_PRECONDITION, words)

    assert translated(error, what="x").reason == reason


def test_a_quota_of_requests_is_busy_and_not_a_quota_to_ask_more_of() -> None:
    refused = GoogleRefusal(
        Code.RESOURCE_EXHAUSTED,
        "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute'",
        answers.info("RATE_LIMIT_EXCEEDED", "googleapis.com"),
    )

    assert translated(by_grpc(refused), what="x").reason == "busy"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RefreshError("invalid_grant: Bad Request"), "login"),
        (DefaultCredentialsError("none"), "login"),
        (DeadlineExceeded("no answer within 60 s"), "unreachable"),
        (requests.ConnectionError("no route to host"), "unreachable"),
        (ValueError("Unknown field for NodePool: labels"), "failed"),
        (RetryError("gave up", by_grpc(answers.api_off("iam", "1"))), "api-off"),
    ],
)
def test_what_is_no_answer_is_told_apart(error: Exception, reason: Reason) -> None:
    assert translated(error, what="look").reason == reason


def test_an_api_that_is_off_is_told_without_googles_long_words() -> None:
    told = translated(by_grpc(answers.api_off("container", "123")), what="look", project=PROJECT)

    assert told.message == "cannot look: the API container.googleapis.com is off"
    assert "Enable it by visiting" in told.words


def test_a_login_that_is_over_is_told_in_its_words_alone() -> None:
    over = RefreshError("invalid_grant: Token has been revoked.", {"error": "invalid_grant"})

    told = translated(over, what="look")

    assert told.message == (
        "cannot look: Google Cloud does not accept the credentials: "
        "invalid_grant: Token has been revoked."
    )


def test_an_error_of_ours_stays_as_it_is() -> None:
    ours = ConfigurationError("there are no credentials")

    assert refusal(ours, what="look") is ours


def test_an_operation_that_failed_is_told_as_a_call_is() -> None:
    stock_out = answers.stock_out("us-central1-a")

    told = failure(stock_out.code.value[0], str(stock_out), "create node pool l4", PROJECT)
    broken = failure(13, "Internal error.", "create cluster train", PROJECT)

    assert told.reason == "stock-out"
    assert (broken.reason, broken.hint) == (
        "failed",
        "run the same again: what is done already is kept",
    )


def test_a_refusal_survives_pickling_with_all_it_knows() -> None:
    refused = answers.no_permission("container.clusters.get", "projects/my-project")
    told = translated(by_grpc(refused), what="look", project=PROJECT)

    again = pickle.loads(pickle.dumps(told))

    assert isinstance(again, CloudRefusal)
    assert isinstance(again, CloudError)
    assert (again.reason, again.subject, str(again)) == (told.reason, told.subject, str(told))


def test_a_role_is_named_for_every_permission_that_setting_up_needs() -> None:
    needed = {
        "artifactregistry.repositories.create": "roles/artifactregistry.admin",
        "iam.serviceAccounts.actAs": "roles/iam.serviceAccountUser",
        "iam.serviceAccounts.setIamPolicy": "roles/iam.serviceAccountAdmin",
        "resourcemanager.projects.get": "roles/browser",
        "resourcemanager.projects.setIamPolicy": "roles/resourcemanager.projectIamAdmin",
        "serviceusage.services.enable": "roles/serviceusage.serviceUsageAdmin",
    }

    assert {permission: role_with(permission) for permission in needed} == needed
    assert role_with(None) == role_with("bigquery.jobs.create") == "ROLE"
