"""Prefect: its API, its blocks, and the background server of this machine."""
