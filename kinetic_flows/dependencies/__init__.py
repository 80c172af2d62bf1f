"""What a run's environment contains: found, locked, hashed, explained."""
