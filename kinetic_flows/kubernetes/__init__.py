"""Kubernetes as values: job variables, manifests and diagnoses."""
