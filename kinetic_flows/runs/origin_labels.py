"""Where a run's call came from, as labels of its flow run and in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kinetic_flows.clients.prefect.labels import ORIGIN_LABELS, user_tag
from kinetic_flows.code.origin import Origin, caller

SHORT_COMMIT = 10
"""How much of a commit is shown."""


def origin_labels(origin: Origin | None) -> dict[str, str | bool]:
    """Return the labels that tell where a call came from, those that are known."""
    if origin is None:
        return {}
    commit = origin.commit
    told = {
        "commit": commit.id if commit else "",
        "branch": commit.branch if commit else "",
        "is_dirty": commit.is_dirty if commit else None,
        "user": origin.user,
        "host": origin.host,
        "entry": origin.entry,
        "client": origin.client,
    }
    return {
        ORIGIN_LABELS[name]: value
        for name, value in told.items()
        if value is not None and value != ""
    }


def origin_tags(origin: Origin | None) -> tuple[str, ...]:
    """Return the tags by which runs are found by where they came from."""
    return (user_tag(origin.user),) if origin and origin.user else ()


def as_of_now(labels: Mapping[str, Any], *, is_told: bool) -> dict[str, Any]:
    """Return the labels of a run that repeats another: the same code, called from here.

    Args:
        labels: The other run's labels.
        is_told: Whether to tell who calls it from where.
    """
    of_call = {ORIGIN_LABELS[name] for name in ("user", "host", "client")}
    kept = {name: value for name, value in labels.items() if name not in of_call}
    return {**kept, **(origin_labels(caller()) if is_told else {})}


def without_user(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags without those that name who started a run."""
    return tuple(tag for tag in tags if not tag.startswith(user_tag("")))


def caller_of(labels: Mapping[str, Any]) -> str:
    """Return who started a run, as `user@host`; empty when its labels do not say."""
    user, host = (str(labels.get(ORIGIN_LABELS[name]) or "") for name in ("user", "host"))
    return f"{user}@{host}" if user and host else user or host


def commit_of(labels: Mapping[str, Any]) -> str:
    """Return a run's commit in words, such as `3f2a1bc0d4 on main, with changes`; else empty."""
    commit, branch, is_dirty = (
        labels.get(ORIGIN_LABELS[name]) for name in ("commit", "branch", "is_dirty")
    )
    if not commit and not branch:
        return ""
    where = f" on {branch}" if branch else ""
    changes = ", with changes" if is_dirty else ""
    return f"{str(commit or 'no commit')[:SHORT_COMMIT]}{where}{changes}"


def origin_facts(labels: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return where a run's call came from, as labels and texts in the order to show them.

    Args:
        labels: The flow run's labels.
    """
    client = labels.get(ORIGIN_LABELS["client"])
    facts = (
        ("called by", caller_of(labels)),
        ("from", str(labels.get(ORIGIN_LABELS["entry"]) or "")),
        ("commit", commit_of(labels)),
        ("client", f"kinetic-flows {client}" if client else ""),
    )
    return tuple((name, text) for name, text in facts if text)
