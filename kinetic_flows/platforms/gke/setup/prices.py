"""Google's list prices of what a setup is made of besides machines, in US dollars.

Those of machines are in `core.accelerators.prices`, with where and when all of them were put down.
"""

from __future__ import annotations

HOURS_A_MONTH = 730

CLUSTER_HOURLY = 0.10
"""The management fee of every cluster: https://cloud.google.com/kubernetes-engine/pricing."""

FREE_TIER_MONTHLY = 74.40
"""What each billing account is given back of the fees of its zonal and Autopilot clusters, which
is one of them."""

NAT_HOURLY_A_NODE = 0.0014
NAT_ADDRESS_HOURLY = 0.005
NAT_A_GIB = 0.045
NAT_MOST_NODES = 32
"""https://cloud.google.com/nat/pricing: of more nodes than these, 32 are paid."""

DISK_MONTHLY_A_GB = 0.10
"""A balanced persistent disk, as nodes have them: https://cloud.google.com/compute/disks-image-pricing."""

STORAGE_MONTHLY_A_GB = 0.020
"""Standard storage in a region: https://cloud.google.com/storage/pricing."""

REGISTRY_MONTHLY_A_GB = 0.10
REGISTRY_FREE_GB = 0.5
"""Images, of which the first half GB is free: https://cloud.google.com/artifact-registry/pricing."""
