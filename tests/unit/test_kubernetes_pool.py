"""What an installation does to a work pool, and what it does not without being told to."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.templates import marked, without_mark
from kinetic_flows.platforms.gke.work_pool import PoolChange, install, plan_installation

NAME = "kinetic-gke"


class Pools:
    """Work pools by name, and how often one was written to."""

    def __init__(self, template: dict[str, Any] | None = None) -> None:
        self.templates = {} if template is None else {NAME: template}
        self.written = 0

    def read_template(self, name: str, _type: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.templates.get(name))

    def create(self, name: str, _type: str, template: dict[str, Any]) -> bool:
        self.update(name, template)
        return True

    def update(self, name: str, template: dict[str, Any]) -> None:
        self.templates[name] = copy.deepcopy(template)
        self.written += 1


def install_as_planned(pools: Any) -> PoolChange:
    change = plan_installation(pools, NAME)
    install(pools, NAME, change)
    return change


def an_older_template() -> dict[str, Any]:
    old = without_mark(base_job_template())
    pod = old["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    del pod["containers"][0]["securityContext"]
    del old["variables"]["properties"]["security_context"]
    return marked(old)


def test_installing_twice_writes_once():
    pools: Any = Pools()
    assert install_as_planned(pools).action == "created"
    assert install_as_planned(pools).action == "unchanged"
    assert pools.written == 1
    assert pools.templates[NAME] == base_job_template()


def test_a_template_that_nobody_edited_follows_the_version_unasked():
    pools: Any = Pools(an_older_template())
    change = plan_installation(pools, NAME)
    assert (change.action, change.is_edited) == ("updated", False)
    assert any("containers[prefect-job].securityContext: added" in each for each in change.changes)
    assert pools.written == 0, "it was only planned"
    install(pools, NAME, change)
    assert pools.templates[NAME] == base_job_template()


@pytest.mark.parametrize("has_mark", [True, False])
def test_an_edit_is_told_and_asked_about_also_where_an_older_version_left_no_mark(has_mark):
    edited = base_job_template()
    edited["job_configuration"]["job_manifest"]["spec"]["suspend"] = True
    pools: Any = Pools(edited if has_mark else without_mark(edited))
    change = plan_installation(pools, NAME)
    assert change.is_edited
    assert change.changes == ("job_configuration.job_manifest.spec.suspend: removed True",)


def test_a_template_without_a_mark_that_is_this_versions_gets_one_and_is_called_unchanged():
    pools: Any = Pools(without_mark(base_job_template()))
    change = install_as_planned(pools)
    assert (change.action, change.is_edited, change.changes) == ("unchanged", False, ())
    assert pools.templates[NAME] == base_job_template()
    assert install_as_planned(pools).is_done
    assert pools.written == 1


def test_defaults_that_an_administrator_set_are_no_reason_to_ask_and_stay():
    known = an_older_template()
    known["variables"]["properties"]["shared_memory"]["default"] = "64Gi"
    pools: Any = Pools(known)
    change = plan_installation(pools, NAME)
    assert not change.is_edited
    install(pools, NAME, change)
    properties = pools.templates[NAME]["variables"]["properties"]
    assert properties["shared_memory"]["default"] == "64Gi"
    assert install_as_planned(pools).is_done
