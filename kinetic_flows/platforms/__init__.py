"""Somewhere to run: this machine, or Google Cloud."""
