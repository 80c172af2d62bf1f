"""Cloud Build over gRPC: submit a build, look at it, find it, cancel it.

See https://cloud.google.com/build/docs/api/reference/rpc.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from kinetic_flows.clients.deadlines import DeadlineExceeded, call_with_deadline
from kinetic_flows.clients.google.errors import is_credential_error, status_of
from kinetic_flows.clients.google.grpc import Connection, open_client
from kinetic_flows.clients.google.login import LOGIN_HINT
from kinetic_flows.core.errors import BuildError, KineticError
from kinetic_flows.platforms.gke.builds.build import (
    BuildSpec,
    BuildState,
    BuildStep,
    build_secrets,
    build_steps,
    pushed_images,
)

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.devtools.cloudbuild_v1 import Build, CloudBuildClient

T = TypeVar("T")

logger = logging.getLogger(__name__)

SUBMISSION_TRIES = 3
ORPHAN_SECONDS = 10.0
"""How long to look for the build of an interrupted submission."""
ORPHAN_POLL_SECONDS = 0.5
TRANSIENT_CODES = frozenset({429, 500, 502, 503, 504})


class CloudBuild:
    """One project's builds.

    Nothing is sent, and no SDK is imported, before the first call.

    Args:
        project: The Google Cloud project.
        location: Where builds run: `global` or a region.
        endpoint: `host:port` of another Cloud Build endpoint; with `http://` in front it is
            asked in plain text and without credentials; None for Google's.
        credentials: Who asks; None for Application Default Credentials.
        call_seconds: Limit for a call, all its tries together.
    """

    def __init__(
        self,
        project: str,
        *,
        location: str = "global",
        endpoint: str | None = None,
        credentials: Credentials | None = None,
        call_seconds: float = 60.0,
    ) -> None:
        self._project = project
        self._parent = f"projects/{project}/locations/{location}"
        self._call_seconds = call_seconds
        self._connection = Connection(lambda: _client(endpoint, credentials))

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        self._connection.close()

    def submit(
        self, spec: BuildSpec, *, on_orphan: Callable[[str], None] = lambda _: None
    ) -> BuildState:
        """Start a build, once: an answer that was lost is looked up before trying again.

        Args:
            spec: What to build.
            on_orphan: Called with the id of a build that came to be although the submission was
                interrupted (Ctrl-C while its answer was on the way).

        Raises:
            BuildError: Cloud Build does not take it.
        """
        submission = _Submission()
        try:
            return self._submit_once(spec, submission)
        except KineticError:
            raise
        except BaseException:
            with contextlib.suppress(KineticError):  # the interruption matters more
                self._report_orphan(submission, on_orphan)
            raise

    def _submit_once(self, spec: BuildSpec, submission: _Submission) -> BuildState:
        for number in range(1, SUBMISSION_TRIES + 1):
            try:
                return self._submit(spec, submission)
            except _Unavailable as error:
                logger.info("Cloud Build did not answer a submission: %s", error)
                found = self.find_running(submission.mark)
                if found is not None:
                    return found
                if number == SUBMISSION_TRIES:
                    raise
        raise AssertionError("unreachable")

    def _report_orphan(self, submission: _Submission, on_orphan: Callable[[str], None]) -> None:
        """Look for the build of a submission that was on its way when it was interrupted."""
        deadline = time.monotonic() + ORPHAN_SECONDS
        is_over = False
        while not is_over:
            is_over = submission.over.is_set() or time.monotonic() > deadline
            orphan = self.find_running(submission.mark)
            if orphan is not None:
                on_orphan(orphan.id)
                return
            submission.over.wait(ORPHAN_POLL_SECONDS)

    def get(self, build_id: str) -> BuildState:
        """Return what is known of a build.

        Raises:
            BuildError: It does not exist, or Cloud Build cannot be asked.
        """
        request = {
            "name": f"{self._parent}/builds/{build_id}",
            "project_id": self._project,
            "id": build_id,
        }
        return _state(
            self._call(lambda client, options: client.get_build(request=request, **options))
        )

    def find(self, build_id: str) -> BuildState | None:
        """Return what is known of a build; None when there is none of that id any more.

        Raises:
            BuildError: Cloud Build cannot be asked.
        """
        try:
            return self.get(build_id)
        except _Unknown:
            return None

    def find_running(self, tag: str) -> BuildState | None:
        """Return a build with a tag that has not ended; None when there is none.

        Raises:
            BuildError: Cloud Build cannot be asked.
        """
        request = {
            "parent": self._parent,
            "project_id": self._project,
            "filter": f'tags="{tag}"',
            "page_size": 20,
        }

        def first_page(client: CloudBuildClient, options: dict[str, Any]) -> list[Build]:
            pages = client.list_builds(request=request, **options).pages
            return list(next(iter(pages)).builds)

        states = [_state(build) for build in self._call(first_page)]
        return next((state for state in states if state.is_running), None)

    def default_service_account(self) -> str:
        """Return the e-mail address of who builds run as when nobody else is named.

        Raises:
            BuildError: Cloud Build cannot be asked.
        """
        request = {"name": f"{self._parent}/defaultServiceAccount"}
        answer = self._call(
            lambda client, options: client.get_default_service_account(request=request, **options)
        )
        return str(answer.service_account_email).rpartition("/")[2]

    def cancel(self, build_id: str) -> None:
        """Cancel a build; nothing happens when it has ended.

        Raises:
            BuildError: Cloud Build cannot be asked.
        """
        request = {
            "name": f"{self._parent}/builds/{build_id}",
            "project_id": self._project,
            "id": build_id,
        }
        try:
            self._call(lambda client, options: client.cancel_build(request=request, **options))
        except _AlreadyEnded:
            return

    def _submit(self, spec: BuildSpec, submission: _Submission) -> BuildState:
        request = {
            "parent": self._parent,
            "project_id": self._project,
            "build": _build(spec, submission.mark),
        }

        def create(client: CloudBuildClient, options: dict[str, Any]) -> Build:
            try:
                operation = client.create_build(request=request, **{**options, "retry": None})
            finally:
                submission.over.set()
            build: Build = operation.metadata.build
            return build

        submission.over.clear()

        return _state(self._call(create))

    def _call(self, call: Callable[[CloudBuildClient, dict[str, Any]], T]) -> T:
        """Make a call in this library's terms: limited in time, its errors translated."""
        options = {"timeout": self._call_seconds / 2, "retry": _retry(self._call_seconds)}
        try:
            return call_with_deadline(
                lambda: call(self._connection.client(), options), self._call_seconds
            )
        except KineticError:
            raise
        except Exception as error:
            raise _translate(error, self._project) from error


@dataclass(frozen=True)
class _Submission:
    """One wish to have something built.

    Attributes:
        mark: Tag by which its build is found.
        over: Set while no call that submits it is on its way.
    """

    mark: str = field(default_factory=lambda: f"kinetic-submission-{uuid4().hex}")
    over: threading.Event = field(default_factory=threading.Event)


class _Unavailable(BuildError):
    """Cloud Build did not answer, so nobody knows what it did."""


class _Unknown(BuildError):
    """There is no build of that id, or no such project or location."""


class _AlreadyEnded(BuildError):
    """The build has ended."""


def _client(endpoint: str | None, credentials: Credentials | None) -> CloudBuildClient:
    from google.cloud.devtools.cloudbuild_v1 import CloudBuildClient
    from google.cloud.devtools.cloudbuild_v1.services.cloud_build.transports import (
        CloudBuildGrpcTransport,
    )

    client: CloudBuildClient = open_client(
        CloudBuildClient, CloudBuildGrpcTransport, endpoint=endpoint, credentials=credentials
    )
    return client


def _retry(seconds: float) -> Any:
    """Return how calls that change nothing are repeated."""
    from google.api_core.retry import Retry

    return Retry(
        predicate=lambda error: status_of(error) in TRANSIENT_CODES,
        initial=0.2,
        maximum=5.0,
        timeout=seconds * 0.9,
    )


def _build(spec: BuildSpec, mark: str) -> dict[str, Any]:
    """Return a build in the API's own shape."""
    options = spec.options
    generation = int(spec.source_generation or 0)
    secrets = [
        {"version_name": version, "env": variable}
        for variable, version in build_secrets(spec).items()
    ]
    return {
        "source": {
            "storage_source": {
                "bucket": spec.bucket,
                "object_": spec.source_object,
                **({"generation": generation} if generation else {}),
            },
        },
        "steps": [_step(step) for step in build_steps(spec)],
        "images": list(pushed_images(spec)),
        "tags": [*spec.tags, mark],
        "timeout": {"seconds": options.timeout_seconds},
        "service_account": _service_account(options.service_account),
        "logs_bucket": f"gs://{spec.bucket}/{spec.logs_prefix}".rstrip("/"),
        "options": {
            "logging": "GCS_ONLY",
            "log_streaming_option": "STREAM_ON",
            # A name that this version of the client does not know is passed on as it is.
            **({"machine_type": options.machine_type} if options.machine_type else {}),
            **({"disk_size_gb": options.disk_size_gb} if options.disk_size_gb else {}),
        },
        **({"available_secrets": {"secret_manager": secrets}} if secrets else {}),
    }


def _service_account(name: str) -> str:
    """Return a service account as the API names it."""
    return (
        name if not name or name.startswith("projects/") else f"projects/-/serviceAccounts/{name}"
    )


def _step(step: BuildStep) -> dict[str, Any]:
    return {
        "name": step.name,
        "args": list(step.args),
        "entrypoint": step.entrypoint,
        "env": list(step.environment),
        "secret_env": list(step.secret_variables),
    }


def _state(build: Build) -> BuildState:
    status: Any = build.status.name
    return BuildState(
        id=build.id,
        status=status,
        log_url=build.log_url,
        images={image.name: image.digest for image in build.results.images},
        detail=build.failure_info.detail or build.status_detail,
        step_statuses=tuple((step.name, step.status.name) for step in build.steps),
    )


def _translate(error: Exception, project: str) -> BuildError:
    status, words = status_of(error), " ".join(str(error).split())[:300]
    if status == 401 or is_credential_error(error):
        return BuildError(
            f"Cloud Build does not accept the credentials: {words}", value=project, hint=LOGIN_HINT
        )
    if status == 403:
        return _no_permission(words, project)
    if status == 404:
        return _Unknown(
            f"Cloud Build does not know it: {words}",
            value=project,
            hint=f"check the project {project!r} and the builds' location",
        )
    if status == 400 and "finished" in words:
        return _AlreadyEnded(words, value=project)
    if status is None or status in TRANSIENT_CODES or isinstance(error, DeadlineExceeded):
        return _Unavailable(
            f"Cloud Build cannot be reached: {words or type(error).__name__}",
            value=project,
            hint="check the network; builds that were started go on, and are joined when you "
            "run again",
        )
    return BuildError(f"Cloud Build refused: {words}", value=project, hint="see its own words")


def _no_permission(words: str, project: str) -> BuildError:
    if "has not been used" in words or "is disabled" in words:
        hint = (
            "switch it on with: gcloud services enable cloudbuild.googleapis.com "
            f"--project={project}"
        )
    else:
        hint = (
            f"grant it with: gcloud projects add-iam-policy-binding {project} "
            "--member=user:YOU --role=roles/cloudbuild.builds.editor"
        )
    return BuildError(f"no access to Cloud Build in {project}: {words}", value=project, hint=hint)
