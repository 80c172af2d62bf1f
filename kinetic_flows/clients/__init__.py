"""The only code that touches the SDKs of Google, Kubernetes, Prefect and registries."""
