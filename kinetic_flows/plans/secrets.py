"""The secret variables of a call's runs: which the run fetches, and what is sealed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from kinetic_flows.core.job_parts import SecretSpec
from kinetic_flows.core.sealing import identity_of
from kinetic_flows.core.secret_sources import SecretSource
from kinetic_flows.dependencies.redaction import is_secret_name, without_credentials
from kinetic_flows.platforms.base import Platform

if TYPE_CHECKING:
    # A draft hides what is secret in what is shown of its arguments.
    from kinetic_flows.plans.draft import Draft

MASK = "***"
MASKED_FROM_CHARACTERS = 4
"""As the runner masks: what is shorter is no secret."""
SHOWN_ITEMS = 50
"""More than is shown of a list or a mapping."""


def shown_value(name: str, value: str) -> str | None:
    """Return a captured variable's value as it may be shown; None for what may be a secret."""
    is_secret = is_secret_name(name) or name.upper().endswith(("_KEY", "_AUTH"))
    return None if is_secret else without_credentials(value)


def hidden_values(
    captured: Mapping[str, str], sources: Mapping[str, SecretSource], environ: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the secret values that this process has, the longest first.

    Args:
        captured: Variables that are taken along.
        sources: Where secret variables come from.
        environ: This process's variables.
    """
    found = {value for name, value in captured.items() if shown_value(name, value) != value}
    found |= {environ[each.name] for each in sources.values() if each.kind == "env"}
    stripped = map(str.strip, found)
    long_enough = {value for value in stripped if len(value) >= MASKED_FROM_CHARACTERS}
    return tuple(sorted(long_enough, key=len, reverse=True))


def masked(text: str, hidden: tuple[str, ...]) -> str:
    """Return a text without values that are hidden."""
    for value in hidden:
        text = text.replace(value, MASK)
    return text


def shown_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], hidden: tuple[str, ...]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a call's arguments as they may be described.

    Texts in them are masked here: once one is cut, half a value in it would not be known.
    """
    return _masked_within(args, hidden), _masked_within(dict(kwargs), hidden)


def _masked_within(value: Any, hidden: tuple[str, ...], levels: int = 4) -> Any:
    if not hidden or not levels:
        return value
    if type(value) is str:
        return masked(value, hidden)
    if type(value) in (list, tuple):
        first = (_masked_within(each, hidden, levels - 1) for each in value[:SHOWN_ITEMS])
        return type(value)((*first, *value[SHOWN_ITEMS:]))
    if type(value) is dict:
        first = ((key, value[key]) for key in islice(value, SHOWN_ITEMS))
        return {**value, **{key: _masked_within(it, hidden, levels - 1) for key, it in first}}
    return value


def secret_words(draft: Draft) -> str:
    """Name a call's secret variables and where they come from; empty for none."""
    sources = {name: str(source) for name, source in secret_sources(draft).items()}
    named = {**dict.fromkeys(draft.captured, "capture_env_vars"), **sources}
    return ", ".join(f"{name}={source}" for name, source in sorted(named.items()))


def secret_sources(draft: Draft) -> Mapping[str, SecretSource]:
    """Return where a call's secret variables come from, by name."""
    return draft.call.options.secrets or {}


def sealed_sources(
    sources: Mapping[str, SecretSource], platform: Platform, *, deployed: bool
) -> dict[str, SecretSource]:
    """Return those whose values this process has to have.

    Args:
        sources: Where values come from, by variable.
        platform: Where they run.
        deployed: Whether the runs are a deployment's, which ask Prefect themselves.
    """
    fetched = {*platform.fetched_secrets, *(["prefect"] if deployed else [])}
    return {name: source for name, source in sources.items() if source.kind not in fetched}


def secret_specs(draft: Draft, platform: Platform, *, deployed: bool) -> tuple[SecretSpec, ...]:
    """Return what a job says of the secret variables of its runs.

    Args:
        draft: The call.
        platform: Where it runs.
        deployed: Whether the runs are a deployment's.
    """
    sources = secret_sources(draft)
    sealed = sealed_sources(sources, platform, deployed=deployed)
    specs = {name: _spec(source, draft) for name, source in sources.items()}
    for name in sealed:
        specs[name] = SecretSpec(variable=name, kind="sealed")
    for name, value in draft.captured.items():
        is_masked = shown_value(name, value) != value
        specs[name] = SecretSpec(variable=name, kind="sealed", masked=is_masked)
    return tuple(specs[name] for name in sorted(specs))


def with_identities(
    specs: tuple[SecretSpec, ...], values: Mapping[str, str], key: bytes
) -> tuple[SecretSpec, ...]:
    """Return what a job that is kept says of secret variables: another job for other values.

    Args:
        specs: What it says.
        values: What is sealed.
        key: Those who lack it learn nothing of values from the job.
    """
    return tuple(
        replace(spec, identity=identity_of({spec.variable: values[spec.variable]}, key))
        if spec.kind == "sealed"
        else spec
        for spec in specs
    )


def _spec(source: SecretSource, draft: Draft) -> SecretSpec:
    cloud = draft.settings.cloud
    own = cloud.project if cloud and source.kind == "secret-manager" else None
    return SecretSpec(
        variable=source.variable,
        kind=source.kind,  # type: ignore[arg-type]
        name=source.name,
        key=source.key,
        project=source.project or own,
        version=source.version,
    )
