"""Google Cloud: runs are Jobs of a GKE cluster."""
