"""Data that runs read: what it is made of, where it comes from, and how it gets to the store."""
