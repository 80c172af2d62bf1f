"""Rules by which a bucket removes objects by their age.

https://cloud.google.com/storage/docs/lifecycle
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Rule = dict[str, Any]

ABANDONED_UPLOAD_DAYS = 7


def expire_rule(prefix: str, days: int) -> Rule:
    """Return the rule that removes objects below a prefix.

    Args:
        prefix: Beginning of the objects' names.
        days: Their age.
    """
    return {"action": {"type": "Delete"}, "condition": {"age": days, "matchesPrefix": [prefix]}}


def abandoned_uploads_rule() -> Rule:
    """Return the rule that removes parts of uploads that were never finished."""
    return {
        "action": {"type": "AbortIncompleteMultipartUpload"},
        "condition": {"age": ABANDONED_UPLOAD_DAYS},
    }


def with_rules(
    existing: Iterable[Mapping[str, Any]], wanted: Sequence[Rule]
) -> tuple[Rule, ...] | None:
    """Return a bucket's rules with those that are wanted; None where it has them already.

    Others stay, but for those that do the same to the same objects at another age.

    Args:
        existing: The bucket's rules.
        wanted: Those it is to have.
    """
    rules = [dict(rule) for rule in existing]
    missing = [rule for rule in wanted if rule not in rules]
    if not missing:
        return None
    replaced = [_subject(rule) for rule in missing]
    return (*(rule for rule in rules if _subject(rule) not in replaced), *missing)


def _subject(rule: Rule) -> tuple[Any, ...]:
    """Return what a rule does, and to which objects."""
    others = {name: value for name, value in rule["condition"].items() if name != "age"}
    return rule["action"], others
