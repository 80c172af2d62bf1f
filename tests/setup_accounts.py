"""Service accounts that are made before a cluster is, for tests that make only the cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.cloud import iam_admin_v1

from kinetic_flows.platforms.gke.setup.names import account_email

if TYPE_CHECKING:
    from loopback.google.server import LoopbackGoogle


def add_nodes_account(google: LoopbackGoogle, cluster: str) -> None:
    """Have the account that a cluster's nodes are."""
    email = account_email(google.project.id, cluster, "nodes")
    google.state.add_account(
        iam_admin_v1.ServiceAccount(
            name=f"{google.project.resource}/serviceAccounts/{email}",
            project_id=google.project.id,
            unique_id=google.state.new_number(),
            email=email,
        )
    )
