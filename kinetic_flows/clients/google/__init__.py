"""Google Cloud's clients."""
