"""What ships: the package root, its files in packs, and the pickled call."""
