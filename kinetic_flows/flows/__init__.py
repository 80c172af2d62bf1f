"""Prefect flows, each with its tasks beside it."""

from kinetic_flows.core.settings.settings import track_nobody

# Before anything here imports Prefect.
track_nobody()
