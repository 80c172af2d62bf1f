"""Images: modes, references, Dockerfiles, and the decision to reuse or build."""
