"""Runs in namespaces that do not take everything: Pod Security, and quotas on Jobs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubernetes_runs import WAIT_FOR_EVER, a_launcher, a_request, launch

from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.launcher import Phase
from kinetic_flows.platforms.gke.launcher import LauncherSettings
from kinetic_flows.platforms.gke.phase import Timeouts
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup

RESTRICTED = LauncherSettings(namespace="team-a", timeouts=Timeouts(hopeless_timeout_seconds=1.5))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path) as running:
        running.add_nodes(NodeGroup(name="default", nodes=1))
        running.add_namespace("team-a", enforce="restricted")
        yield running


def finished(job: dict[str, Any]) -> bool:
    return any(each["type"] == "Complete" for each in job["status"].get("conditions", ()))


def age(cluster: LoopbackCluster, name: str) -> None:
    """Let a Job have finished a while ago."""
    long_ago = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()

    def change(job: dict[str, Any]) -> None:
        job["status"]["completionTime"] = long_ago

    cluster.change("jobs", name, change)


def test_a_run_of_the_template_that_ships_is_taken_by_a_restricted_namespace(cluster):
    with a_launcher(cluster, RESTRICTED) as launcher:
        run = launch(launcher, a_request("print('up')", namespace="team-a"))
        assert run.end().phase is Phase.SUCCEEDED
    assert run.output == b"up\n"


def test_a_run_that_the_namespace_does_not_take_says_why_once_and_is_given_up(cluster):
    request = a_request("pass", namespace="team-a", security_context={})
    with a_launcher(cluster, RESTRICTED) as launcher:
        run = launch(launcher, request)
        ended = run.end()
    assert ended.phase is Phase.FAILED
    assert "enforces Pod Security 'restricted'" in ended.reason
    assert "job_variables={'security_context': 'restricted'}" in ended.reason
    refusals = [each for each in cluster.list("events") if each["reason"] == "FailedCreate"]
    assert len({each["message"] for each in refusals}) > 1, "each try has a name of its own"
    told = {seen.reason for seen in run.seen if "Pod Security" in seen.reason}
    assert len(told) == 2, "the reason, and that it is given up for it"


def test_finished_jobs_give_way_where_a_quota_counts_them(cluster):
    cluster.add_quota("few", {"count/jobs.batch": "2"}, {})
    with a_launcher(cluster) as launcher:
        for _ in range(2):
            assert launch(launcher, a_request("pass")).end().phase is Phase.SUCCEEDED
        first, second = (job["metadata"]["name"] for job in cluster.list("jobs"))
        with pytest.raises(LaunchError, match="quota 'few' of the namespace is used up") as caught:
            launch(launcher, a_request("pass"))
        assert "finished_job_ttl" in (caught.value.hint or ""), "they are still to be looked at"
        age(cluster, first)
        age(cluster, second)
        assert launch(launcher, a_request("pass")).end().phase is Phase.SUCCEEDED
        names = [job["metadata"]["name"] for job in cluster.list("jobs")]
        assert second in names, "no more goes than has to"
        assert first not in names


def test_a_job_that_runs_or_has_failed_gives_way_to_none(cluster):
    cluster.add_quota("few", {"count/jobs.batch": "2"}, {})
    with a_launcher(cluster) as launcher:
        live = launch(launcher, a_request(WAIT_FOR_EVER))
        live.until(Phase.RUNNING)
        assert launch(launcher, a_request("raise SystemExit(1)")).end().phase is Phase.FAILED
        for job in cluster.list("jobs"):
            age(cluster, job["metadata"]["name"])
        with pytest.raises(LaunchError, match="quota 'few'"):
            launch(launcher, a_request("pass"))
        assert len(cluster.list("jobs")) == 2
        assert live.look().phase is Phase.RUNNING
