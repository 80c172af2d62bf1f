"""An accelerator, as a value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from kinetic_flows.core.accelerators.runtime import RuntimeRequirement
from kinetic_flows.core.errors import AcceleratorError

Category = Literal["cpu", "gpu", "tpu"]
Architecture = Literal["amd64", "arm64"]

TPU_ACCELERATOR_LABEL = "cloud.google.com/gke-tpu-accelerator"
TPU_TOPOLOGY_LABEL = "cloud.google.com/gke-tpu-topology"
GPU_ACCELERATOR_LABEL = "cloud.google.com/gke-accelerator"
SPOT_LABEL = "cloud.google.com/gke-spot"
FLEX_LABEL = "cloud.google.com/gke-flex-start"

TPU_RESOURCE = "google.com/tpu"
GPU_RESOURCE = "nvidia.com/gpu"

SPOT_SUFFIX = ":spot"
FLEX_SUFFIX = ":flex"
DEFAULT_PREEMPTIONS_ON_SPOT = 3


def split_suffix(text: str) -> tuple[str, str]:
    """Return a name in lower case without the suffix that says how it is had, and that suffix.

    Args:
        text: As people write it; the suffix is `:spot`, `:flex` or empty.
    """
    body = text.strip().lower()
    suffix = next((each for each in (SPOT_SUFFIX, FLEX_SUFFIX) if body.endswith(each)), "")
    return body.removesuffix(suffix), suffix


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One thing a function can run on, in the words of GKE.

    `str()` gives its canonical name, which parses back to the same value, but for `times`.

    Attributes:
        category: Kind of accelerator; decides the base image.
        name: Canonical name without the Spot suffix, such as `tpu-v6e-8` or `a100x4`.
        count: Chips of all slices, or GPUs of all nodes; 0 for `cpu`.
        topology: Arrangement of a slice's chips, such as `2x4`; None for what is no TPU.
        hosts: Nodes of all slices, each of which runs one pod.
        slices: TPU slices, joined by multislice; 1 for what is no TPU.
        machine_type: Compute Engine machine type of each node; None for `cpu`.
        label: GKE's accelerator label of the nodes; None for `cpu`.
        spot: Whether to run on Spot VMs, which Google may take back at any time.
        flex: Whether to run on nodes of flex-start, which wait for capacity and then stay for a
            bounded time.
        architecture: Processor architecture of the nodes.
        memory_gb: Memory of each chip or GPU, as Google's pages count it; 0 for `cpu`.
        runtime: What it asks of the packages that talk to it.
        source: Google's page that documents the facts.
    """

    category: Category
    name: str
    count: int = 0
    topology: str | None = None
    hosts: int = 1
    slices: int = 1
    machine_type: str | None = None
    label: str | None = None
    spot: bool = False
    flex: bool = False
    architecture: Architecture = "amd64"
    memory_gb: int = 0
    runtime: tuple[RuntimeRequirement, ...] = ()
    source: str = ""

    def __str__(self) -> str:
        return f"{self.name}{SPOT_SUFFIX if self.spot else FLEX_SUFFIX if self.flex else ''}"

    @property
    def hosts_per_slice(self) -> int:
        """Nodes of each slice; of what is no TPU, all of them."""
        return self.hosts // self.slices

    @property
    def total_memory_gb(self) -> int:
        """Memory of all chips or GPUs together, as Google's pages count it; 0 for `cpu`."""
        return self.memory_gb * self.count

    def times(self, *, hosts: int = 1, slices: int = 1) -> Accelerator:
        """Return as many of it as a run has nodes, or slices; its name stays.

        Args:
            hosts: Nodes of a run on CPUs or GPUs.
            slices: Slices of a run on TPUs, each of several hosts
                (https://cloud.google.com/kubernetes-engine/docs/how-to/tpu-multislice).

        Raises:
            AcceleratorError: It is not what these count.
        """
        if hosts > 1 and self.category == "tpu":
            raise AcceleratorError(
                f"hosts={hosts} is for CPUs and GPUs, and {self} says how many hosts a slice has",
                value=hosts,
                hint="name a larger slice, or say slices= for several",
            )
        if slices > 1 and self.category != "tpu":
            raise AcceleratorError(
                f"slices={slices} is for TPUs, and {self} has none",
                value=slices,
                hint="say hosts= for several nodes",
            )
        if slices > 1 and self.hosts == 1:
            raise AcceleratorError(
                f"slices={slices} joins slices of several hosts, and {self} has one host",
                value=slices,
                hint="name a larger slice; `kinetic accelerators tpu` shows their hosts",
            )
        many = hosts * slices
        return replace(self, count=self.count * many, hosts=self.hosts * many, slices=slices)

    @property
    def count_per_host(self) -> int:
        """Chips or GPUs of each node."""
        return self.count // self.hosts

    @property
    def node_selector(self) -> dict[str, str]:
        """Node labels the pods ask for."""
        selector: dict[str, str] = {}
        if self.label and self.topology:
            selector = {TPU_ACCELERATOR_LABEL: self.label, TPU_TOPOLOGY_LABEL: self.topology}
        elif self.label:
            selector = {GPU_ACCELERATOR_LABEL: self.label}
        if self.spot:
            return {**selector, SPOT_LABEL: "true"}
        return {**selector, FLEX_LABEL: "true"} if self.flex else selector

    @property
    def resources(self) -> dict[str, str]:
        """Extended resources of each pod, as requests and limits alike."""
        names = {"tpu": TPU_RESOURCE, "gpu": GPU_RESOURCE}
        name = names.get(self.category)
        return {name: str(self.count_per_host)} if name else {}

    @property
    def description(self) -> str:
        """What it is, in words: `8 TPU chips (2x4) on 1 host of ct6e-standard-8t`."""
        hosts = f"{self.hosts} host" + ("s" if self.hosts != 1 else "")
        if self.category == "cpu":
            return "CPU only" if self.hosts == 1 else f"CPU only, {hosts}"
        unit = "TPU chip" if self.category == "tpu" else "GPU"
        arranged = f" ({self.topology})" if self.topology else ""
        counted = f"{self.count} {unit}" + ("s" if self.count != 1 else "")
        slices = f", in {self.slices} slices" if self.slices > 1 else ""
        return f"{counted}{arranged} on {hosts} of {self.machine_type}{slices}"

    def preemptions_tolerated(self, asked: int | None) -> int:
        """Return how often a whole run on it may start again after it was disturbed.

        Args:
            asked: What was asked for; None for 3 on Spot VMs and 0 elsewhere.
        """
        if asked is not None:
            return asked
        return DEFAULT_PREEMPTIONS_ON_SPOT if self.spot else 0

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, for machines."""
        return {
            "name": str(self),
            "category": self.category,
            "count": self.count,
            "topology": self.topology,
            "hosts": self.hosts,
            "machine_type": self.machine_type,
            "count_per_host": self.count_per_host,
            "memory_gb": self.memory_gb,
            "node_selector": self.node_selector,
            "resources": self.resources,
            "spot": self.spot,
            "flex": self.flex,
            "slices": self.slices,
            "architecture": self.architecture,
            "source": self.source,
        }
