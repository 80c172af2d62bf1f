"""The hosts of a run: which of them this is, and how they find one another.

Each host calls the function once, in one process. Frameworks find the others by variables of
their own:

- PyTorch's `env://` has `MASTER_ADDR`, `MASTER_PORT`, `RANK` and `WORLD_SIZE`, and torchrun's
  further ones, `LOCAL_RANK` and `LOCAL_WORLD_SIZE`, belong to them
  (https://docs.pytorch.org/docs/stable/distributed.html,
  https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables);
- JAX takes `JAX_COORDINATOR_ADDRESS`, and the rest as `jax_hosts` says; on TPUs it knows the
  variables that GKE sets, and those of multislice, by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from .contract import DEVICES_VARIABLE, EXIT_BAD_LAUNCH, Fault

INDEX_VARIABLE = "JOB_COMPLETION_INDEX"
"""Set by Kubernetes in the pods of an Indexed Job, and in processes that stand in for them."""

HOST_VARIABLE = "KINETIC_HOST"
HOSTS_VARIABLE = "KINETIC_HOSTS"
HOSTNAMES_VARIABLE = "KINETIC_HOSTNAMES"
COORDINATOR_VARIABLE = "KINETIC_COORDINATOR_ADDRESS"
SERVICE_VARIABLE = "KINETIC_HOSTS_SERVICE"
SLICES_VARIABLE = "KINETIC_SLICES"
SLICE_VARIABLE = "KINETIC_SLICE"

COORDINATOR_PORT = 8476
"""Port of host 0 on which JAX's distributed service listens by default."""

TORCH_PORT = 29500
"""Port of host 0 on which PyTorch's store listens by default."""


def host_number(hosts: int, environ: Mapping[str, str]) -> int:
    """Return which of the run's hosts this is; those of its slices are counted one after another.

    Args:
        hosts: How many there are, in all slices.
        environ: This process's environment.

    Raises:
        Fault: There are several, and nothing says which.
    """
    if hosts == 1:
        return 0
    slices = _number(SLICES_VARIABLE, environ.get(SLICES_VARIABLE, "1"))
    of_slice = hosts // max(slices, 1)
    index = _number(INDEX_VARIABLE, environ.get(INDEX_VARIABLE, "0" if of_slice == 1 else ""))
    if slices == 1:
        return index
    return _number(SLICE_VARIABLE, environ.get(SLICE_VARIABLE, "")) * of_slice + index


def _number(variable: str, text: str) -> int:
    if not text.isdigit():
        message = f"{variable} must be set for a run on several hosts: use an Indexed Job"
        raise Fault(EXIT_BAD_LAUNCH, message)
    return int(text)


def host_variables(host: int, hosts: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Return how the function finds the other hosts, as far as its environment does not say.

    Args:
        host: Which of the run's hosts this is.
        hosts: How many there are; a run on one gets nothing.
        environ: The environment of the function's process.
    """
    if hosts == 1:
        return {}
    found = {HOST_VARIABLE: str(host), **_addresses(environ)}
    coordinator = {**found, **environ}.get(COORDINATOR_VARIABLE, "")
    if coordinator and not is_on_tpu(environ):
        found.update(_of_frameworks(coordinator, host, hosts))
    return {name: value for name, value in found.items() if name not in environ}


def is_on_tpu(environ: Mapping[str, str]) -> bool:
    """Whether a run asked for TPUs, whose runtime tells frameworks of the hosts."""
    return environ.get(DEVICES_VARIABLE, "").startswith("tpu:")


def _addresses(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the hosts' names where the launch could not tell them: a worker names the Job.

    A pod of an Indexed Job is called `{job}-{index}`
    (https://kubernetes.io/docs/tasks/job/job-with-pod-to-pod-communication/).
    """
    service, hosts = environ.get(SERVICE_VARIABLE), environ.get(HOSTS_VARIABLE, "")
    job_name = environ.get("HOSTNAME", "").rpartition("-")[0]
    if not service or not hosts.isdigit() or not job_name:
        return {}
    names = [f"{job_name}-{index}.{service}" for index in range(int(hosts))]
    return {
        HOSTNAMES_VARIABLE: ",".join(names),
        COORDINATOR_VARIABLE: f"{names[0]}:{COORDINATOR_PORT}",
    }


def _of_frameworks(coordinator: str, host: int, hosts: int) -> dict[str, str]:
    """Return the variables that PyTorch and JAX read."""
    return {
        "JAX_COORDINATOR_ADDRESS": coordinator,
        "MASTER_ADDR": coordinator.rpartition(":")[0],
        "MASTER_PORT": str(TORCH_PORT),
        "RANK": str(host),
        "WORLD_SIZE": str(hosts),
        "NODE_RANK": str(host),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
    }
