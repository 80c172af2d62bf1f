"""Runs beside one another: what differs between two, and which difference moved a value."""
