"""What `job_variables=` and `KINETIC_JOB_VARIABLES` accept, and how layers of them add up."""

from __future__ import annotations

import pytest

from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.pool_variables import (
    check_job_variables,
    merged,
    template_defaults,
    unknown_variables,
)
from kinetic_flows.platforms.gke.manifests import base_job_template


def test_quantities_may_be_numbers_or_texts():
    given = {"cpu": 8, "memory": "64Gi", "shared_memory": "1.5Gi"}
    assert check_job_variables(given, "job_variables") == {
        "cpu": "8",
        "memory": "64Gi",
        "shared_memory": "1.5Gi",
    }


def test_the_setting_is_a_json_object():
    assert check_job_variables('{"queue_name": "tpus"}', "KINETIC_JOB_VARIABLES") == {
        "queue_name": "tpus"
    }


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("memory", 16, "memory of job_variables is 16, which is a few bytes"),
        ("memory", "64GB", "memory of job_variables is '64GB'"),
        ("cpu", "8Gi", "cpu of job_variables is '8Gi'"),
        ("cpu", True, "cpu of job_variables is True"),
        ("cpu", "0", "cpu of job_variables is '0'"),
        ("service_account_name", "Trainer!", "is 'Trainer!'"),
        ("labels", {"team": "a b"}, "has team=a b, which is no label"),
        ("labels", {"team": 3}, "labels of job_variables is {'team': 3}"),
        ("annotations", {"a b": "c"}, "has the key 'a b'"),
        ("active_deadline_seconds", 0, "give a whole number from 1 on"),
        ("finished_job_ttl", "600", "finished_job_ttl of job_variables is '600'"),
        ("env_from", [{"name": "keys"}], "has the entry {'name': 'keys'}"),
        ("image_pull_secrets", ["keys"], "give a list such as [{'name': 'my-secret'}]"),
        ("tolerations", [{"taint": "x"}], "has the entry {'taint': 'x'}"),
        ("their_own", {1, 2}, "give a value that JSON can hold"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_to_write(name, value, words):
    with pytest.raises(ConfigurationError) as caught:
        check_job_variables({name: value}, "job_variables")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("image", "container_image="),
        ("backoff_limit", "max_preemptions="),
        ("namespace", "KINETIC_NAMESPACE"),
        ("env", "capture_env_vars="),
        ("tpu_chips", "accelerator="),
        ("spot", ":spot"),
    ],
)
def test_what_is_decided_elsewhere_says_where(name, instead):
    with pytest.raises(ConfigurationError, match="decided elsewhere") as caught:
        check_job_variables({name: "x"}, "job_variables")
    assert instead in (caught.value.hint or "")


def test_every_variable_of_the_template_is_checked_or_decided_elsewhere():
    for name in base_job_template()["variables"]["properties"]:
        with pytest.raises(ConfigurationError):
            check_job_variables({name: object()}, "job_variables")


def test_an_option_is_refused_where_it_is_written():
    with pytest.raises(UsageError, match="memory of job_variables is 'lots'"):
        RunOptions().updated({"job_variables": {"memory": "lots"}})


def test_an_administrators_own_variable_is_passed_on():
    assert check_job_variables({"team_budget": ["a"]}, "x") == {"team_budget": ["a"]}


def test_later_layers_win_mappings_merge_and_lists_join():
    assert merged(
        {"memory": "1Gi", "labels": {"team": "a", "stage": "dev"}, "tolerations": [{"key": "x"}]},
        {"memory": "2Gi", "labels": {"team": "b"}, "tolerations": [{"key": "y"}]},
    ) == {
        "memory": "2Gi",
        "labels": {"team": "b", "stage": "dev"},
        "tolerations": [{"key": "x"}, {"key": "y"}],
    }


def test_a_templates_defaults_and_variables_are_read():
    template = base_job_template()
    assert template_defaults(template)["shared_memory"] == "2Gi"
    assert unknown_variables(["memory", "memroy"], template) == ["memroy"]
