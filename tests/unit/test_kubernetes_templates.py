"""A work pool's template against the one that ships."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.templates import (
    MARK,
    is_as_shipped,
    marked,
    template_changes,
    with_kept_defaults,
    without_mark,
)

LONG = "Disk request and limit; a pod beyond it is evicted, and it is told why it was, "

values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text("ab", max_size=200),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3)
    ),
    max_leaves=12,
)


def variables(template: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = template["variables"]["properties"]
    return found


def older() -> dict[str, Any]:
    """Return the template of an older version, as that version installed it."""
    old = without_mark(copy.deepcopy(base_job_template()))
    del old["job_configuration"]["job_manifest"]["spec"]["podFailurePolicy"]
    variables(old)["finished_job_ttl"]["default"] = 86400
    return marked(old)


@given(values, values)
def test_a_difference_never_looks_the_same_on_both_sides(old, new):
    lines = list(template_changes(old, new))
    assert bool(lines) is (json.dumps(old, sort_keys=True) != json.dumps(new, sort_keys=True))
    for line in lines:
        found = re.fullmatch(r"[^:]*: (.*) is now (.*)", line, re.S)
        assert found is None or found[1] != found[2], line


def test_what_two_long_texts_differ_in_is_shown():
    (line,) = template_changes({"a": LONG + "first"}, {"a": LONG + "second"})
    assert "first" in line
    assert "second" in line
    assert len(line) < 150


def test_lists_are_compared_item_by_item_and_named_items_by_their_names():
    old = [{"name": "prefect-job", "image": "a"}, {"name": "sidecar"}]
    new = [{"name": "init"}, {"name": "prefect-job", "image": "b"}]
    assert list(template_changes(old, new, "containers")) == [
        "containers[prefect-job].image: 'a' is now 'b'",
        "containers[sidecar]: removed {'name': 'sidecar'}",
        "containers[init]: added {'name': 'init'}",
    ]


def test_a_place_for_a_variable_among_named_items_is_the_one_thing_that_is_new():
    old = [{"name": "home", "emptyDir": {}}]
    assert list(template_changes(old, [*old, "{{ packages_volume }}"], "volumes")) == [
        "volumes[{{ packages_volume }}]: added '{{ packages_volume }}'"
    ]


def test_a_template_that_nobody_touched_is_known_by_its_mark():
    assert is_as_shipped(base_job_template())
    assert is_as_shipped(older())
    assert not is_as_shipped(without_mark(older())), "an older version may have left no mark"


@pytest.mark.parametrize("path", ["removed", "added", "changed"])
def test_every_edit_but_of_a_default_is_somebodys_own(path):
    edited = older()
    spec = edited["job_configuration"]["job_manifest"]["spec"]
    match path:
        case "removed":
            del spec["template"]["spec"]["subdomain"]
        case "added":
            spec["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
        case "changed":
            variables(edited)["memory"]["description"] = "Ask the platform team."
    assert not is_as_shipped(edited)


def test_defaults_that_somebody_set_stay_and_those_that_nobody_did_follow_the_version():
    known = older()
    variables(known)["shared_memory"]["default"] = "64Gi"
    variables(known)["service_account_name"]["default"] = "trainer"
    variables(known)["termination_grace_seconds"].pop("default")
    assert is_as_shipped(known)
    merged = with_kept_defaults(base_job_template(), known)
    shipped = variables(base_job_template())
    now = {name: each.get("default") for name, each in variables(merged).items()}
    assert now["shared_memory"] == "64Gi"
    assert now["service_account_name"] == "trainer"
    assert now["termination_grace_seconds"] is None
    assert now["finished_job_ttl"] == shipped["finished_job_ttl"]["default"] != 86400
    # And after the next installation, too.
    again = with_kept_defaults(base_job_template(), merged)
    assert again == merged


def test_of_a_template_without_a_mark_only_what_is_left_open_is_kept():
    known = without_mark(older())
    variables(known)["service_account_name"]["default"] = "trainer"
    merged = with_kept_defaults(base_job_template(), known)
    assert variables(merged)["service_account_name"]["default"] == "trainer"
    shipped = variables(base_job_template())
    assert variables(merged)["finished_job_ttl"] == shipped["finished_job_ttl"]
    assert MARK in merged
