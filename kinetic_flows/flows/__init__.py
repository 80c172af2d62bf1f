"""Prefect flows, each with its tasks beside it."""
