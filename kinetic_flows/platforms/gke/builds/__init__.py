"""Images made by Cloud Build, and where they are kept."""
