"""This machine: runs are processes, environments stand in for images."""
