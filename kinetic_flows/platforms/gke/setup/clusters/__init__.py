"""The GKE cluster and its node pools, with what they cost and what quotas say."""
