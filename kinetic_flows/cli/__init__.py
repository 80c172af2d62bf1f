"""The `kinetic` command."""

from kinetic_flows.cli.main import main

__all__ = ("main",)
