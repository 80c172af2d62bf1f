"""Runs that may go on one of several accelerators: their rounds, and whoever drives them."""
