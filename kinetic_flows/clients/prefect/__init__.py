"""Prefect: its API, its blocks, and the background server of this machine."""

from kinetic_flows.core.settings.settings import track_nobody

# Before anything here imports it.
track_nobody()
