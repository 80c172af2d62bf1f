"""Runs that have some things from one run, and the rest from another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from kinetic_flows.clients.prefect.api import NewRun
from kinetic_flows.clients.prefect.labels import (
    ACCELERATOR_LABEL,
    BISECT_LABEL,
    FUNCTION_LABEL,
    IMAGE_LABEL,
    JOB_LABEL,
    LAUNCHED_LABEL,
    OUTPUTS_LABEL,
    PACKAGES_LABEL,
    PLATFORM_LABEL,
    RUN_TAG,
    SLICES_LABEL,
    STORE_LABEL,
    bisect_tag,
)
from kinetic_flows.clients.prefect.surroundings import surrounding_tags
from kinetic_flows.code.data.uses import keep
from kinetic_flows.code.origin import caller
from kinetic_flows.code.runner_bundle import runner_bundle
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.errors import RunNotFoundError
from kinetic_flows.core.job import (
    JobTemplate,
    LaunchSpec,
    RunTicket,
    canonical_json,
    sha256_hex,
)
from kinetic_flows.core.job_parts import CostLimit, ObjectRef
from kinetic_flows.core.object_names import runner_object
from kinetic_flows.plans.compile_cache import compile_cache_spec, environment_digest
from kinetic_flows.plans.cost import cost_limit
from kinetic_flows.runs.call_secrets import secret_values_again
from kinetic_flows.runs.compare.changes import (
    ACCELERATOR_OPTIONS,
    CALL_FIELDS,
    CALL_OPTIONS,
    ENVIRONMENT_OPTIONS,
    SCRIPT,
    Change,
    Kind,
    Side,
    is_bound,
)
from kinetic_flows.runs.compare.mixed_code import MixedCode
from kinetic_flows.runs.compare.mixed_packages import MixedPackages
from kinetic_flows.runs.launch import PlannedRun, launch_planned
from kinetic_flows.runs.origin_labels import origin_labels, origin_tags
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import store_label
from kinetic_flows.runs.stored_run import request_of

NOT_REPEATED = {"debug": False, "profile": False, "cache_for": None, "output_dir": None}
"""Options that no mixture has: it waits for nobody, and has outputs of its own."""


_NOTHING_OF_ITS_OWN: Mapping[str, Any] = {
    **dict.fromkeys(("output", "candidate", "drives", "debug")),
    "profile": False,
}
"""Fields of a job that no mixture has."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A run that can be started.

    Attributes:
        template: Its job.
        call: Whose call it is.
        identity: What tells it from others.
    """

    template: JobTemplate
    call: Side
    identity: str


class Mixtures:
    """Makes runs that have the first of some changes, and starts them.

    Args:
        good: The run without any change.
        bad: The run with all of them.
        changes: The changes, in the order in which they are taken over.
        session: Where they run.
        packages: What mixes packages; None where they are taken as a whole.
        key: What tells mixtures of these two runs from those of others.
        open_until: What removes what was written out for them.
    """

    def __init__(
        self,
        good: Side,
        bad: Side,
        changes: Sequence[Change],
        session: Session,
        *,
        packages: MixedPackages | None,
        key: str,
        open_until: ExitStack,
    ) -> None:
        self._good = good
        self._bad = bad
        self._changes = changes
        self._session = session
        self._packages = packages
        self._code = MixedCode(good, bad, session.settings.home, open_until)
        self.key = key

    def with_first(self, count: int, tell: Callable[[str], None]) -> Mixture:
        """Return the run that has the first of the changes.

        Args:
            count: How many.
            tell: Told what is printed by what makes an image.

        Raises:
            KineticError: It cannot be made.
        """
        taken: dict[Kind, set[str]] = {}
        for each in self._changes[:count]:
            taken.setdefault(each.kind, set()).add(each.name)
        call = self._side("arguments", taken)
        if SCRIPT in taken.get("code", ()):
            call = self._bad
        template = self._template(taken, call, tell)
        identity = identity_of(template, call.record.parameters)
        return Mixture(template=template, call=call, identity=identity)

    def _template(
        self, taken: Mapping[Kind, set[str]], call: Side, tell: Callable[[str], None]
    ) -> JobTemplate:
        environment, accelerator = self._environment(taken), self._side("accelerator", taken)
        launch, bundle = self._launch(taken), runner_bundle()
        template = replace(
            call.job,
            cost=self._cost(launch),
            runner=ObjectRef(
                name=runner_object(bundle.sha256), sha256=bundle.sha256, size_bytes=len(bundle.data)
            ),
            code=self._code_of(taken),
            python=environment.job.python,
            requirements=environment.job.requirements,
            packages=environment.job.packages,
            hosts=accelerator.job.hosts,
            max_preemptions=accelerator.job.max_preemptions,
            **_fields(self._side("options", taken)),
            **_NOTHING_OF_ITS_OWN,
            launch=launch,
        )
        some = taken.get("packages", set())
        if self._packages is None or not some or some == self._names("packages"):
            return self._with_programs(template)
        mixed = self._packages.with_packages(some, tell)
        return self._with_programs(
            replace(
                template,
                requirements=mixed.requirements,
                launch=replace(launch, image=mixed.image),
            )
        )

    def _with_programs(self, template: JobTemplate) -> JobTemplate:
        """Return a job that finds the compiled programs of its own packages and accelerator."""
        if template.compile_cache is None or template.launch is None:
            return template
        asked = request_of(template.launch, template.name)
        environment = environment_digest(
            asked.image, template.python, template.requirements, template.packages
        )
        spec = compile_cache_spec(
            asked.options.compile_cache,
            asked.accelerator,
            environment,
            hosts=template.hosts,
            is_here=self._session.platform.sees_files,
        )
        return replace(template, compile_cache=spec)

    def _launch(self, taken: Mapping[Kind, set[str]]) -> LaunchSpec:
        environment, options = self._environment(taken), self._side("options", taken)
        accelerator = self._side("accelerator", taken)
        return LaunchSpec(
            image=environment.launch.image,
            accelerator=accelerator.launch.accelerator,
            mode=environment.launch.mode,
            options={
                **self._good.options,
                **_of(environment, ENVIRONMENT_OPTIONS),
                **_of(accelerator, ACCELERATOR_OPTIONS),
                **_of(options, CALL_OPTIONS),
                **{name: value for name, value in NOT_REPEATED.items() if name in options.options},
                "accelerator": accelerator.launch.accelerator,
            },
        )

    def _cost(self, launch: LaunchSpec) -> CostLimit | None:
        """Return what a mixture may cost, by the price of the accelerator that it is on."""
        platform, settings = self._session.platform, self._session.settings
        asked = request_of(launch, self._good.job.name)
        return cost_limit(
            asked.options.max_cost, asked.accelerator, settings, is_here=platform.sees_files
        )

    def _side(self, kind: Kind, taken: Mapping[Kind, set[str]]) -> Side:
        return self._bad if kind in taken else self._good

    def _environment(self, taken: Mapping[Kind, set[str]]) -> Side:
        if is_bound(self._good, self._bad):
            return self._side("accelerator", taken)
        is_whole = taken.get("packages") == self._names("packages")
        return self._bad if is_whole else self._good

    def _names(self, kind: Kind) -> set[str]:
        return {each.name for each in self._changes if each.kind == kind}

    def _code_of(self, taken: Mapping[Kind, set[str]]) -> Any:
        some = taken.get("code", set()) - {SCRIPT}
        if self._good.job.code is None or self._bad.job.code is None:
            return (self._bad if some else self._good).job.code
        if some == self._names("code") - {SCRIPT}:
            return self._bad.job.code if some else self._good.job.code
        return self._code.with_files(some) if some else self._good.job.code

    def start(
        self, mixture: Mixture, name: str, on_created: Callable[[RunTicket], None]
    ) -> RunTicket:
        """Start a mixture as a run.

        Args:
            mixture: The mixture.
            name: What it is called.
            on_created: Told of the run before its process is started.

        Raises:
            RunNotFoundError: Its data has expired.
            KineticError: It could not be started.
        """
        session, template = self._session, mixture.template
        store = session.platform.store
        if not keep(template.data, store):
            raise RunNotFoundError(
                f"data of run {mixture.call.record.id} has expired",
                value=mixture.call.record.id,
                hint="call the function again, and take that run",
            )
        bundle = runner_bundle()
        store.put_if_absent(runner_object(bundle.sha256), bundle.data)
        assert template.launch is not None
        request = replace(request_of(template.launch, template.name), packages=template.packages)
        planned = PlannedRun(
            new=NewRun(
                flow=template.name,
                name=name,
                parent_flow_run_id=None,
                parameters=mixture.call.record.parameters,
                tags=self._tags(template),
                labels=self._labels(mixture),
                job_variables={},
            ),
            request=request,
            template=template,
            payload=mixture.call.payload,
            outputs=session.outputs_root,
            secret_values=secret_values_again(template, session),
        )
        return launch_planned(planned, session, on_created)

    def _tags(self, template: JobTemplate) -> tuple[str, ...]:
        assert template.launch is not None
        here = () if self._session.settings.no_origin else origin_tags(caller())
        of_run = (RUN_TAG, template.launch.accelerator, template.launch.mode)
        return tuple(dict.fromkeys((*of_run, *surrounding_tags(), *here, bisect_tag(self.key))))

    def _labels(self, mixture: Mixture) -> dict[str, Any]:
        session, template = self._session, mixture.template
        assert template.launch is not None
        slices = int(template.launch.options.get("slices") or 1)
        is_told = not session.settings.no_origin
        named = parse_accelerator(template.launch.accelerator)
        return {
            **(origin_labels(caller()) if is_told else {}),
            FUNCTION_LABEL: template.name,
            ACCELERATOR_LABEL: str(named),
            **({SLICES_LABEL: slices} if slices > 1 else {}),
            **({PACKAGES_LABEL: template.packages.image} if template.packages else {}),
            PLATFORM_LABEL: session.platform.name,
            OUTPUTS_LABEL: session.outputs_root,
            STORE_LABEL: store_label(session.platform),
            LAUNCHED_LABEL: datetime.now(UTC).isoformat(),
            IMAGE_LABEL: str(template.launch.image.get("reference") or ""),
            JOB_LABEL: template.content_digest(),
            BISECT_LABEL: mixture.identity,
        }


def identity_of(template: JobTemplate, parameters: Mapping[str, Any]) -> str:
    """Return what tells a mixture from others.

    Args:
        template: Its job.
        parameters: Its flow run's, which decide what a deployment's function is called with.
    """
    told = {"job": template.content_digest(), "parameters": repr(sorted(parameters.items()))}
    return sha256_hex(canonical_json(told))


def _of(side: Side, names: Sequence[str]) -> dict[str, Any]:
    return {name: side.options[name] for name in names if name in side.options}


def _fields(side: Side) -> dict[str, Any]:
    return {name: getattr(side.job, name) for name in CALL_FIELDS}
