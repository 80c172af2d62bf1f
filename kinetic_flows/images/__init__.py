"""Images: what bases are made from, Dockerfiles, labels and tags, and checks of custom images."""
