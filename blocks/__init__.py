"""Prefect blocks of kinetic-flows."""
