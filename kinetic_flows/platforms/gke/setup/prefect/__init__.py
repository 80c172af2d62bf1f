"""The Prefect server, worker and work pool of a cluster."""
