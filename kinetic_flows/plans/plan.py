"""The plan of one call: everything decided before the first side effect, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Literal

from kinetic_flows.core.environment import EnvironmentSpec, ImageMode
from kinetic_flows.core.image_builder import ImagePreview
from kinetic_flows.core.public_names import public
from kinetic_flows.plans.past import PastRuns
from kinetic_flows.plans.plan_words import card, explained, summary
from kinetic_flows.plans.planned_cost import PlannedCost
from kinetic_flows.plans.planned_list import PlannedList
from kinetic_flows.plans.planned_rehearsal import PlannedRehearsal


@dataclass(frozen=True, kw_only=True)
class CodeSummary:
    """How much code ships."""

    files: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class PlannedFile:
    """A file that ships: its path below the project, and its size."""

    path: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class PlannedVariable:
    """An environment variable that a run has besides its image's own.

    Attributes:
        name: Its name; of a whole Secret of the cluster, that Secret's.
        value: Its value; None for what may be a secret, and for what only the cluster knows.
        source: Who gives it.
    """

    name: str
    value: str | None
    source: str


@dataclass(frozen=True, kw_only=True)
class PlannedData:
    """Data that a run reads.

    Attributes:
        source: Where it comes from.
        how: How the run gets it: `in place` (it sees this machine's files), `sent` (brought to the
            store by the call, and fetched by the run), `fetched` (from where it is), or `mounted`.
        at: The path that `volumes` gives it; None for an argument.
        identity: SHA-256 of what is there; None where that is not looked at.
        files: How many files it has; None where nobody has counted them.
        size_bytes: Their size; None where nobody knows.
        unsent_bytes: How much of it the call would send, uncompressed; None where nothing is sent.
    """

    source: str
    how: Literal["in place", "sent", "fetched", "mounted"]
    at: str | None = None
    identity: str | None = None
    files: int | None = None
    size_bytes: int | None = None
    unsent_bytes: int | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class PlannedVolume:
    """What a run finds at a path of its file system, besides data.

    Attributes:
        path: The path.
        volume: What it is, as `volumes` says it: `pvc:CLAIM` or `scratch:SIZE`.
        read_only: Whether it cannot be written to.
    """

    path: str
    volume: str
    read_only: bool


@public
@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """Everything decided about one call, by `train.plan(...)`; nothing of it has been done.

    `print(plan)` says all of it; in a notebook and in a REPL its name alone says the most
    important. What had to be asked was asked when the plan was made: no attribute asks anything.

    Example:
        ```python
        plan = train.with_options(accelerator="tpu-v6e-8").plan(rate=0.1)
        if plan.obstacles or not plan.cached:
            print(plan)
        ```

    Attributes:
        name: The function's name.
        platform: `local` or `gke`.
        accelerator: Canonical name of the accelerator; of several with `or` between them, and what
            else depends on it is that of the first which can be had.
        mode: How the image comes to be.
        build_step: What has to be built, in the words of the documentation.
        packages_come: How dependencies get into the image, in the same words.
        packages_image: The image with the project's packages that is mounted in a prebuilt run;
            None where none is.
        packages_cached: Whether that image exists already; None where there is none.
        image: The image's reference.
        digest: Digest of the image; None while there is none.
        size_bytes: Its compressed size; None when it is not known, or there is none.
        cached: Whether the image exists already; None when nobody has looked.
        dependency_file: The file that declares the dependencies; None when there is none.
        dependency_source: What to call what declares them: that file, or what there is instead.
        environment: The project's packages, in the image or installed when it starts; None in
            custom mode.
        code: How much code ships; None when none does.
        job_variables: What the work pool's job template is given.
        filtered: Requirements that are left out because the image has the accelerator's own
            version, a sentence each.
        warnings: What else the person should know, a sentence each.
        obstacles: What speaks against launching it now, a sentence each: the cluster, the
            bucket, or the Prefect API.
        why: Why the image has to be built; None when it need not be, or nobody knows.
        notices: What the call would say before it begins, a sentence each.
        where: Where its parts will be, by a word each: project, cluster, location, namespace,
            bucket, image repository and work pool; on this machine its directories.
        prefect_api: URL of the Prefect API that it reports to; None for the background server
            that the call has to start.
        dispatched_by: Who starts it: this `client`, or a `worker` of the work pool; None when
            the cluster did not tell.
        hardware: The accelerator in GKE's words: category, count, topology, hosts, machine type,
            node selector, resources, and `memory_gb` of each chip.
        asks_for: What each host's process asks of its node, by the name of the resource, and of
            where that may be.
        rooms: The cluster's node pools that could take it, with what is free; None when that is
            not known.
        root: The directory whose files ship.
        files: Those files, by path.
        data: Data that it reads, of its arguments and of its volumes.
        volumes: Claims and scratch disks that it finds at paths.
        variables: Environment variables that go along.
        captured: What the function takes along of its module by value, a name and its type each.
        past: How long this function took on this accelerator; None for never, or not known.
        cost: What the run would cost, an estimate; None where no price is known.
        builds: How long images took to be built; None when none has to be, or not known.
        making: How the image would be made: who assembles it from how many layers, of which so many
            are known, and how much is sent; None when it need not be made, or is made on this
            machine.
        outputs: Where its outputs would go, with what is not known yet in braces.
        choice: How one of several accelerators is found; None where there is one.
        rehearsed: What the last rehearsal of the function said of the accelerator; None where
            there was none.
    """

    name: str
    platform: str
    accelerator: str
    mode: ImageMode
    build_step: str
    packages_come: str
    packages_image: str | None = None
    packages_cached: bool | None = None
    image: str
    digest: str | None = None
    size_bytes: int | None = None
    cached: bool | None
    dependency_file: str | None
    dependency_source: str
    environment: EnvironmentSpec | None
    code: CodeSummary | None
    job_variables: Mapping[str, Any]
    filtered: tuple[str, ...]
    warnings: tuple[str, ...]
    obstacles: tuple[str, ...] = ()
    why: tuple[str, ...] | None
    notices: tuple[str, ...] = ()
    where: Mapping[str, str] = field(default_factory=dict)
    prefect_api: str | None = None
    dispatched_by: str | None = None
    hardware: Mapping[str, Any] = field(default_factory=dict)
    asks_for: Mapping[str, str] = field(default_factory=dict)
    rooms: tuple[str, ...] | None = field(default=None, compare=False)
    root: str = ""
    files: tuple[PlannedFile, ...] = ()
    data: tuple[PlannedData, ...] = ()
    volumes: tuple[PlannedVolume, ...] = ()
    variables: tuple[PlannedVariable, ...] = ()
    captured: tuple[str, ...] = ()
    past: PastRuns | None = field(default=None, compare=False)
    cost: PlannedCost | None = field(default=None, compare=False)
    builds: PastRuns | None = field(default=None, compare=False)
    making: ImagePreview | None = field(default=None, compare=False)
    outputs: str = ""
    choice: PlannedList | None = None
    rehearsed: PlannedRehearsal | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values, for machines."""
        environment, code = self.environment, self.code or CodeSummary(files=0, size_bytes=0)
        return {
            "name": self.name,
            "platform": self.platform,
            "where": dict(self.where),
            "prefect_api": self.prefect_api,
            "dispatched_by": self.dispatched_by,
            "accelerator": self.accelerator,
            "choice": self.choice.to_json() if self.choice else None,
            "hardware": dict(self.hardware),
            "asks_for": dict(self.asks_for),
            "rooms": None if self.rooms is None else list(self.rooms),
            "mode": self.mode,
            "build_step": self.build_step,
            "packages_come": self.packages_come,
            "packages_image": self.packages_image,
            "packages_cached": self.packages_cached,
            "image": self.image,
            "digest": self.digest,
            "size_bytes": self.size_bytes,
            "cached": self.cached,
            "why": list(self.why) if self.why is not None else None,
            "builds": self.builds.to_json() if self.builds else None,
            "making": asdict(self.making) if self.making else None,
            "dependency_file": self.dependency_file,
            "dependency_source": self.dependency_source,
            "base_variant": environment.variant if environment else None,
            "dependency_hash": environment.dependency_hash if environment else None,
            "packages": {item.name: item.version for item in environment.packages}
            if environment
            else {},
            "code": {"files": code.files, "bytes": code.size_bytes, "root": self.root or None},
            "files": [asdict(item) for item in self.files],
            "data": [asdict(item) for item in self.data],
            "volumes": [asdict(item) for item in self.volumes],
            "variables": [asdict(item) for item in self.variables],
            "captured": list(self.captured),
            "job_variables": dict(self.job_variables),
            "outputs": self.outputs or None,
            "past": self.past.to_json() if self.past else None,
            "cost": self.cost.to_json() if self.cost else None,
            "rehearsed": self.rehearsed.to_json() if self.rehearsed else None,
            "notices": list(self.notices),
            "filtered": list(self.filtered),
            "warnings": list(self.warnings),
            "obstacles": list(self.obstacles),
        }

    def explain(self, *, files: bool = False, columns: int | None = None) -> str:
        """Return the plan as text for people.

        Args:
            files: Whether to list every file that ships, with its size.
            columns: How wide a line may be, as on a terminal; None for any width.
        """
        return explained(self, files=files, columns=columns)

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        # One that an earlier version pickled lacks what came later.
        made = {
            item.name: item.default_factory()
            for item in fields(self)
            if item.default_factory is not MISSING
        }
        self.__dict__.update(made | dict(state))

    def __str__(self) -> str:
        return self.explain()

    def __repr__(self) -> str:
        return "\n".join(summary(self))

    def _repr_html_(self) -> str:
        return card(self).html()
