"""kinetic-flows: run a Python function on cloud accelerators as a Prefect flow run."""
