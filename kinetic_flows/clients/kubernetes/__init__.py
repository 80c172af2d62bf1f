"""Kubernetes' client."""
