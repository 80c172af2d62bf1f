"""Starting a run's process on one of its candidates, by whoever drives the run."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kinetic_flows.clients.prefect.access import credentials_for
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.secret_blocks import SecretBlocks
from kinetic_flows.clients.prefect.work_pools import WorkPools
from kinetic_flows.core.candidates import LAUNCH_VARIABLE, Candidate, Candidates, Launch
from kinetic_flows.core.errors import KineticError, LaunchError, RunCancelled
from kinetic_flows.core.job import (
    JOB_VARIABLE,
    RUN_KEY_VARIABLE,
    SEAL_KEY_VARIABLE,
    RunTicket,
    canonical_json,
)
from kinetic_flows.core.job_reading import read_job
from kinetic_flows.core.launcher import LaunchRequest
from kinetic_flows.core.object_names import payload_object, sealed_object
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.images.inspection import image_from_fields
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.cancel import API_AWAY, CANCELLED_STATES
from kinetic_flows.runs.compile_cache_keys import key_for_process
from kinetic_flows.runs.sealed_values import seal_block


def own_credentials(api: PrefectApi, run: RunTicket) -> tuple[dict[str, str], str]:
    """Return the variables that let this process's user in at Prefect, and their digest.

    Args:
        api: The API.
        run: The run whose key the digest is made with, so that nobody else can try credentials.
    """
    credentials = credentials_for(api.url, process_environment())
    key = bytes.fromhex(run.run_key)
    return credentials, hmac.new(key, canonical_json(credentials), "sha256").hexdigest()


class CandidateStarter:
    """Starts launches of one run.

    Args:
        platform: Where they are started.
        api: Where the run reports.
        run: The run.
    """

    def __init__(self, platform: Platform, api: PrefectApi, run: RunTicket) -> None:
        self._platform = platform
        self._api = api
        self._run = run
        self._shared: dict[str, str] | None = None
        self._template: Mapping[str, Any] | None = None

    def start(self, candidates: Candidates, launch: Launch) -> None:
        """Start a launch; a repeated call starts nothing more.

        Args:
            candidates: What the run may go on.
            launch: Which of it, in which round.

        Raises:
            LaunchError: It was refused, or the cluster does not answer.
            PrefectServerError: What its process is handed could not be asked for.
            RunCancelled: Nobody wants the run any more.
        """
        self._check_wanted()
        chosen = candidates.candidates[launch.candidate]
        environment = {
            **self._environment(candidates),
            **self._programs_key(chosen),
            JOB_VARIABLE: f"{self._platform.store.uri}/{chosen.job}",
            "KINETIC_JOB_SHA256": chosen.job_sha256,
            LAUNCH_VARIABLE: str(launch),
        }
        self._platform.launcher.start(
            LaunchRequest(
                run_id=self._run.run_id,
                name=candidates.function,
                image=image_from_fields(chosen.image),
                environment=environment,
                job_variables=chosen.job_variables,
                template=self._template,
                launch=launch,
            )
        )

    def _check_wanted(self) -> None:
        """Start nothing that nobody wants: who drives a run may only have looked at it."""
        # An API that is away, or that has lost its database, stops no other run either.
        with suppress(*API_AWAY):
            record = self._api.read_run(self._run.run_id)
            if record.state_type in CANCELLED_STATES or (record.is_final and not record.is_guessed):
                raise RunCancelled(f"run {record.id} is {record.state_name}", value=record.id)

    def _environment(self, candidates: Candidates) -> dict[str, str]:
        """Return the variables that all launches have; found out before the first."""
        if self._shared is not None:
            return self._shared
        platform, api = self._platform, self._api
        pool = platform.launch_pool
        if pool is not None:
            self._template = WorkPools(api.url).read_template(pool.name, pool.type)
        # A run that cannot report leaves that to its client, and wastes no time on trying.
        may_report = platform.launcher.reaches(platform.api_for_runs(api.url)) is not False
        credentials, digest = own_credentials(api, self._run)
        # Nor is it handed what lets in somebody else.
        is_handed = may_report and digest == candidates.credentials
        self._shared = {
            RUN_KEY_VARIABLE: self._run.run_key,
            **self._seal_key(),
            **(credentials if is_handed else {}),
            **platform.runner_environment(),
        }
        return self._shared

    def _programs_key(self, chosen: Candidate) -> dict[str, str]:
        """Return what signs the programs that a launch compiles; nothing where it keeps none."""
        # The list does not say which of them keep any; a launch does without where nobody knows.
        with suppress(KineticError, ValueError):
            job = read_job(self._platform.store.get(chosen.job).data)
            return key_for_process(job.template, self._platform, load_settings().home)
        return {}

    def _seal_key(self) -> dict[str, str]:
        """Return what opens the run's secret values; nothing where it has none.

        Raises:
            LaunchError: They cannot be opened any more.
        """
        name = sealed_object(payload_object(self._run.run_id))
        store = self._platform.store
        if store.missing([name]):
            return {}
        block = seal_block(name, store.uri)
        key = SecretBlocks(self._api).read(block)
        if key is None:
            raise LaunchError(
                f"the key of the run's secret values is gone: Prefect has no block {block!r}",
                value=block,
                hint="cancel the run, and call the function again",
            )
        return {SEAL_KEY_VARIABLE: key}
