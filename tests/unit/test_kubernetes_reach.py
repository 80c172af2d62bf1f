"""Which Prefect API the pods of runs are told to ask."""

from __future__ import annotations

import pytest

from kinetic_flows.platforms.gke.reach import for_pods
from kinetic_flows.platforms.gke.setup.names import PODS_URL

FORWARDED = "http://127.0.0.1:4243/api"
ELSEWHERE = "https://prefect.example/api"


@pytest.mark.parametrize(
    ("asked_here", "said", "told"),
    [
        (FORWARDED, PODS_URL, PODS_URL),
        ("http://localhost:9000/api", PODS_URL, PODS_URL),
        (FORWARDED, None, FORWARDED),
        # Another server than the one in the cluster is one that is meant.
        (ELSEWHERE, PODS_URL, ELSEWHERE),
    ],
)
def test_pods_ask_the_clusters_server_where_this_machine_does_by_a_port(
    asked_here: str, said: str | None, told: str
) -> None:
    assert for_pods(asked_here, said) == told
