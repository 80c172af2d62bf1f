"""Prefect flows: one for a run, one for the base images."""
