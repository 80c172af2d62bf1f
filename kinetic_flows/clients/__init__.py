"""The only code that touches Google's, registries' and Kubernetes' clients."""
