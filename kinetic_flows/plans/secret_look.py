"""Looking for the secrets of a call where they are, before anything is done for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

from kinetic_flows.core.display import counted
from kinetic_flows.core.errors import KineticError, SecretError, in_a_sentence
from kinetic_flows.core.job_parts import SecretSpec
from kinetic_flows.core.secret_sources import SecretSource
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.secrets import sealed_sources, secret_sources
from kinetic_flows.platforms.base import Platform

T = TypeVar("T")


class Blocks(Protocol):
    """Prefect's Secret blocks, as far as they are asked here."""

    def read(self, name: str) -> str | None:
        """Return what one holds; None when there is none."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where values are looked for.

    Attributes:
        settings: The settings in force.
        environ: This process's variables.
        platform: Where the runs run.
        blocks: Prefect's; None where it cannot be asked now, and nothing is known of it.
    """

    settings: Settings
    environ: Mapping[str, str] = field(repr=False)
    platform: Platform
    blocks: Blocks | None


@dataclass(frozen=True, kw_only=True)
class FoundSecrets:
    """The secrets of a call as they were found.

    Attributes:
        values: What is sealed for its runs, by variable.
        problems: Which ones are not to be had, and what to do.
        warnings: Which ones could not be looked for.
    """

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def raise_for_problems(self) -> None:
        """Raise one error that names all that are missing.

        Raises:
            SecretError: Some are.
        """
        if self.problems:
            listed = "".join(f"\n  - {problem}" for problem in self.problems)
            raise SecretError(
                f"{counted(len(self.problems), 'secret')} cannot be had:{listed}",
                value=self.problems,
                hint="nothing was built or uploaded",
            )


class _Missing(Exception):
    """A secret is not to be had."""


class _Unknown(Exception):
    """Whether a secret is to be had cannot be found out here."""


def look_for_secrets(
    draft: Draft, around: Surroundings, *, deployed: bool = False, reads: bool = True
) -> FoundSecrets:
    """Find what a call's runs are to know, and whether what they fetch themselves is there.

    Args:
        draft: The call.
        around: Where to look.
        deployed: Whether the runs are a deployment's.
        reads: Whether values are read that are sealed; else it is only looked whether they are
            there.
    """
    sources = secret_sources(draft)
    sealed = sealed_sources(sources, around.platform, deployed=deployed)
    asks: dict[str, Callable[[], str]] = {
        name: partial(_read if name in sealed and reads else _find, source, around)
        for name, source in sources.items()
    }
    found = _ask_all(asks)
    values = {name: value for name, value in found.values.items() if name in sealed}
    return replace(found, values={**draft.captured, **values})


def plan_secrets(
    draft: Draft, environ: Mapping[str, str], blocks: frozenset[str] | None
) -> FoundSecrets:
    """Return what speaks against a call's secrets; what they hold is told nowhere.

    Args:
        draft: The call.
        environ: This process's variables.
        blocks: Prefect's Secret blocks among those it names; None where Prefect was not asked.
    """
    around = Surroundings(
        settings=draft.settings,
        environ=environ,
        platform=draft.platform,
        blocks=None if blocks is None else _Known(blocks),
    )
    return look_for_secrets(draft, around, reads=False)


@dataclass(frozen=True)
class _Known:
    """Blocks of which is known that they are there."""

    names: frozenset[str]

    def exists(self, name: str) -> bool:
        return name in self.names

    def read(self, name: str) -> str | None:
        return "" if name in self.names else None


def read_again(
    specs: tuple[SecretSpec, ...], sources: Mapping[str, SecretSource], around: Surroundings
) -> Mapping[str, str]:
    """Return the values of a run that is started once more, as they are here and now.

    Args:
        specs: What its job says.
        sources: What its options said; what is not among it was captured.
        around: Where to look.

    Raises:
        SecretError: Some are not to be had; all of them are named.
    """
    sealed = [spec.variable for spec in specs if spec.kind == "sealed"]
    captured = {
        name: SecretSource(variable=name, kind="env", name=name)
        for name in sealed
        if name not in sources
    }
    wanted = {**sources, **captured}
    found = _ask_all({name: partial(_read, wanted[name], around) for name in sealed})
    found.raise_for_problems()
    return found.values


def _ask_all(asks: Mapping[str, Callable[[], str]]) -> FoundSecrets:
    values: dict[str, str] = {}
    problems: list[str] = []
    warnings: list[str] = []
    for name, ask in asks.items():
        try:
            values[name] = ask()
        except _Missing as missing:
            problems.append(f"{name}: {missing}")
        except _Unknown as unknown:
            warnings.append(f"{name}: {unknown}")
    return FoundSecrets(values=values, problems=tuple(problems), warnings=tuple(warnings))


def _read(source: SecretSource, around: Surroundings) -> str:
    """Return a value that is sealed."""
    if source.kind == "env":
        return _of_environment(source, around)
    if source.kind == "k8s":
        return _of_environment(replace(source, name=source.variable), around, instead_of=source)
    if source.kind == "prefect":
        blocks = around.blocks
        value = None if blocks is None else _asked(lambda: blocks.read(source.name))
        if value is None:
            raise _Missing(_no_block(source))
        return value
    return _of_secret_manager(source, around, reads=True)


def _find(source: SecretSource, around: Surroundings) -> str:
    """See that a value is there that is not read here."""
    if source.kind == "prefect":
        blocks = around.blocks
        if blocks is not None and not _asked(lambda: blocks.exists(source.name)):
            raise _Missing(_no_block(source))
        return ""
    if source.kind == "secret-manager":
        return _of_secret_manager(source, around, reads=False)
    # A Secret of Kubernetes is looked for with everything else that is asked of the cluster.
    is_here = source.kind == "env" or source.kind not in around.platform.fetched_secrets
    return _read(source, around) if is_here else ""


def _of_environment(
    source: SecretSource, around: Surroundings, instead_of: SecretSource | None = None
) -> str:
    value = around.environ.get(source.name)
    if value is not None:
        return value
    if instead_of is None:
        raise _Missing(f"the variable {source.name} is not set; export it")
    raise _Missing(
        f"{instead_of} is a Secret of a cluster, and runs here are in none; export {source.name} "
        "to have them take what it is"
    )


def _no_block(source: SecretSource) -> str:
    return (
        f"Prefect has no Secret block {source.name!r}; make it on its page Blocks, or with "
        f'prefect.blocks.system.Secret(value="...").save({source.name!r})'
    )


def _asked(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except KineticError as error:
        raise _Missing(in_a_sentence(error)) from error


def _of_secret_manager(source: SecretSource, around: Surroundings, *, reads: bool) -> str:
    project = _project_of(source, around)
    try:
        value = _ask_secret_manager(source, project, around, reads=reads)
    except SecretError as error:
        if not error.message.startswith("no access"):
            told = in_a_sentence(error)
        else:
            whose = "user:YOU" if reads else "serviceAccount:ACCOUNT-OF-THE-RUN"
            told = (
                f"{error.message}; who has to read it is let in by: gcloud secrets "
                f"add-iam-policy-binding {source.name} --project={project} --member={whose} "
                "--role=roles/secretmanager.secretAccessor"
            )
        raise (_Missing if reads else _Unknown)(told) from error
    if value is None:
        raise _Missing(
            f"there is no secret {source.name} in project {project}, or no version "
            f"{source.version} of it; make it: printf %s VALUE | gcloud secrets create "
            f"{source.name} --project={project} --data-file=-"
        )
    return value


def _project_of(source: SecretSource, around: Surroundings) -> str:
    cloud = around.settings.cloud
    project = source.project or (cloud.project if cloud else around.settings.project)
    project = project or around.environ.get("GOOGLE_CLOUD_PROJECT")
    if project:
        return project
    raise _Missing(
        f"nothing says which project {source.name} is in; write "
        f"secret-manager:projects/PROJECT/secrets/{source.name}"
    )


def _ask_secret_manager(
    source: SecretSource, project: str, around: Surroundings, *, reads: bool
) -> str | None:
    """Return what a secret holds, or only that it is there; None when it is not.

    Raises:
        SecretError: Secret Manager refuses, or cannot be reached.
    """
    from kinetic_flows.clients.google.secret_manager import SecretManager

    cloud = around.settings.cloud
    elsewhere = around.environ.get("KINETIC_SECRET_MANAGER_ENDPOINT") or None
    manager = SecretManager(
        project,
        endpoint=cloud.secret_manager_endpoint if cloud else elsewhere,
        credentials=cloud.credentials.load() if cloud and cloud.credentials else None,
    )
    try:
        if not reads:
            with suppress(SecretError):
                return manager.latest(source.name, source.version)
        # Who may read a secret need not be allowed to look at it.
        return manager.read(source.name, source.version)
    finally:
        manager.close()
