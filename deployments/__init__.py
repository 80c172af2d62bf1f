"""Work pools, deployments and worker manifests, as data."""
