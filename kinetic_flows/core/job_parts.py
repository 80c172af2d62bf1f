"""Parts of a job: objects in the store, data, volumes, secrets and outputs of its run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NewType

Sha256 = NewType("Sha256", str)
"""A SHA-256 in lower-case hexadecimal."""


@dataclass(frozen=True, kw_only=True)
class ObjectRef:
    """An object in the store and the digest its content must have.

    Attributes:
        name: Name relative to the store's root.
        sha256: Digest of the object's bytes; for a code pack, of its uncompressed content.
        size_bytes: Size of the object's bytes; for a code pack, of its uncompressed content.
    """

    name: str
    sha256: Sha256
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class CostLimit:
    """What a run may cost.

    Attributes:
        hourly: What an hour of all its hosts costs, in US dollars.
        limit: What it may cost before it is ended, in US dollars.
    """

    hourly: float
    limit: float


@dataclass(frozen=True, kw_only=True)
class DebugSpec:
    """How each host of a run waits for a debugger before it calls the function.

    Attributes:
        wheel: The debugger's wheel; None where the project has the debugger.
        wait_seconds: How long it waits.
    """

    wheel: ObjectRef | None
    wait_seconds: float = 600.0


@dataclass(frozen=True, kw_only=True)
class RequirementsSpec:
    """The requirements that the runner installs first, in prebuilt mode.

    Attributes:
        lock: The locked requirements with hashes.
        wheels: Wheels that come with the job, fetched and verified, then offered to uv.
        constraints: Path in the image of the accelerator runtime's constraints; None for none.
        offline: Whether every package comes from `wheels`, so that no index is asked.
    """

    lock: ObjectRef
    wheels: tuple[ObjectRef, ...] = ()
    constraints: str | None = None
    offline: bool = False


@dataclass(frozen=True, kw_only=True)
class PackagesSpec:
    """The project's packages as an image that is mounted as a volume, in prebuilt mode.

    Attributes:
        image: The image, by digest.
        identity: What its marker file says of what is in it.
    """

    image: str
    identity: str


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Data of a run, everything about it fixed; the function gets a path to it.

    Attributes:
        kind: `local` (in the store, or where it is on this machine), `bucket`, `hub` or `web`.
        identity: SHA-256 of what is there, however it is kept.
        source: Where it comes from, for people.
        name: What its file or directory is called.
        is_file: Whether it is one file.
        mode: Whether the run has a copy, or it is mounted.
        in_memory: Whether the copy is kept in memory.
        read_only: Whether what is mounted cannot be written to.
        include: Patterns of which a file's path must match one; None for all files.
        exclude: Patterns of which it may match none.
        size_bytes: Its size; None where nobody has counted it.
        files: How many files it has; None where nobody has counted them.
        manifest: What lists its files and packs, for data that is in the store.
        path: Where it is already, or is mounted; None for what the runner brings.
        place: What the runner needs to find it: bucket and path, repository and commit, or URL.
    """

    kind: Literal["local", "bucket", "hub", "web"]
    identity: str
    source: str
    name: str
    is_file: bool = False
    mode: Literal["copy", "mount"] = "copy"
    in_memory: bool = False
    read_only: bool = True
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()
    size_bytes: int | None = None
    files: int | None = None
    manifest: ObjectRef | None = None
    path: str | None = None
    place: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class VolumeSpec:
    """What a run finds at one path of its file system.

    Attributes:
        path: The absolute path.
        kind: `data`, `claim` (a PersistentVolumeClaim) or `scratch` (an empty disk).
        read_only: Whether it cannot be written to.
        data: Which of the job's data it is, by its place in the list; None unless it is data.
        claim: Name of the PersistentVolumeClaim; empty unless it is one.
        sub_path: Directory of the claim that is mounted; empty for all of it.
        size: Size of a scratch disk, as a Kubernetes quantity; empty unless it is one.
    """

    path: str
    kind: Literal["data", "claim", "scratch"]
    read_only: bool = True
    data: int | None = None
    claim: str = ""
    sub_path: str = ""
    size: str = ""


@dataclass(frozen=True, kw_only=True)
class SecretSpec:
    """A variable of a run whose value is secret, as the runner finds it.

    Attributes:
        variable: The variable's name.
        kind: `secret-manager` and `prefect` are asked by the runner; `k8s` is in its environment;
            `sealed` is in the run's sealed object.
        name: The secret's name there; empty for `sealed`.
        key: Which key of a Kubernetes Secret; empty for the other kinds.
        project: The secret's Google Cloud project; None for the one that the run is in.
        version: The version in Secret Manager.
        masked: Whether no output of the run is to show the value.
        identity: Of a sealed value in a job that is kept: what tells it from others, and nothing
            about it to those without a key; empty for jobs of single runs.
    """

    variable: str
    kind: Literal["secret-manager", "k8s", "prefect", "sealed"]
    name: str = ""
    key: str = ""
    project: str | None = None
    version: str = "latest"
    masked: bool = True
    identity: str = ""


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """Where a run's outputs go that names its directory.

    Attributes:
        directory: The directory or `gs://` URI, which may have fields in braces that a run's
            parameters decide.
        in_use: Whether the run fails, or waits, where another one that goes on writes there.
        arguments: JSON values by name, which a run's parameters come on top of; empty where the
            directory has no fields.
        uri: What a directory on a volume is, wherever that is mounted: in Cloud Storage, or
            `pvc:claim/directory`; else empty.
    """

    directory: str
    in_use: Literal["refuse", "wait"] = "refuse"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    uri: str = ""

    @property
    def place(self) -> str:
        """What others know it by: its URI, else the directory."""
        return self.uri or self.directory


@dataclass(frozen=True, kw_only=True)
class CandidateSpec:
    """Which of the accelerators that its run may go on a job is for.

    Attributes:
        number: Its place in the list, from 0.
        accelerator: Its canonical name, for messages.
        moves_on: Whether a function that ran out of memory goes on with a larger one.
    """

    number: int
    accelerator: str
    moves_on: bool = False


@dataclass(frozen=True, kw_only=True)
class CompileCacheSpec:
    """Where a run's compiled programs are kept for later runs.

    Attributes:
        prefix: What names of its objects begin with: that of the environment, accelerator and
            topology, with a slash at its end; each host has its own below it.
        max_bytes: How large all of them may be together; the least recently used go first.
    """

    prefix: str
    max_bytes: int


@dataclass(frozen=True, kw_only=True)
class RehearsalTarget:
    """Something that a rehearsal compiles for, which is not there.

    Attributes:
        accelerator: Canonical name of the accelerator.
        kind: `tpu`, or `gpu`.
        topology: What the compiler calls it: `v6e:2x4`; for GPUs the model, such as `h100`.
        chips_per_host: Chips of each host along each side of the topology; empty for GPUs.
        devices: How many devices the step is given. Chips of some generations are two.
        hosts: Hosts of all slices.
        slices: TPU slices.
        device_memory_bytes: Memory of each device, as its maker counts it.
        chip_config: What the compiler calls the way in which a chip's cores are one device, where
            it has to be told: `megacore`; empty where not.
    """

    accelerator: str
    kind: Literal["tpu", "gpu"]
    topology: str
    devices: int
    device_memory_bytes: int
    chips_per_host: tuple[int, ...] = ()
    hosts: int = 1
    slices: int = 1
    chip_config: str = ""


@dataclass(frozen=True, kw_only=True)
class RehearsalSpec:
    """What a rehearsal compiles for, each in a process of its own.

    Attributes:
        targets: What for.
        name: What a step is called that has no name of its own: as the function it is part of.
        limit_seconds: How long each may take.
        limit_memory_bytes: How much memory each may take where it is compiled; None for three
            quarters of what there is.
    """

    targets: tuple[RehearsalTarget, ...]
    name: str = ""
    limit_seconds: float = 900.0
    limit_memory_bytes: int | None = None
