"""What a rehearsal says: whether the steps of a function fit accelerators that are not there.

The runner writes reports as plain JSON (`runner_image/runner/rehearsing.py`), sizes in bytes and
of one device, which is what compilers count; `tests/unit/test_rehearsals.py` holds the two sides
together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["fits", "exceeds", "failed"]
"""`failed`: the step could not be compiled for another reason than its size."""

Problem = Literal["unknown-topology", "no-compiler", "time", "memory", "function", "died"]
"""Why nothing is known of any step on an accelerator.

`unknown-topology`: jax or libtpu does not know it; `no-compiler`: the environment has no compiler
for it; `time`, `memory`: the compiling process took more than it may; `function`: the rehearsal's
own code raised, or gave what is no step; `died`: the process ended otherwise.
"""


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """Memory of one device that a step takes; None for what the compiler has not said.

    Attributes:
        available_bytes: What a program may use.
        needed_bytes: What it needs at once, everything together.
        arguments_bytes: What it is given.
        output_bytes: What it returns, besides what takes the place of arguments.
        temporary_bytes: What it makes meanwhile.
        code_bytes: The program itself.
    """

    available_bytes: int | None = None
    needed_bytes: int | None = None
    arguments_bytes: int | None = None
    output_bytes: int | None = None
    temporary_bytes: int | None = None
    code_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Buffer:
    """Something large in memory.

    Attributes:
        size_bytes: Its size on one device.
        shape: Its type and shape, such as `bf16[8192,4096]`.
        operation: What made it, such as `jit(step)/dot_general`; of an argument, its name.
        source: The file and line that it comes from, such as `model.py:42`; empty where nobody
            knows.
        kind: Whether it is given to the step, returned, or made meanwhile.
    """

    size_bytes: int
    shape: str
    operation: str = ""
    source: str = ""
    kind: Literal["argument", "output", "temporary"] = "temporary"


@dataclass(frozen=True, kw_only=True)
class Collective:
    """Operations of one kind by which devices exchange data.

    Attributes:
        operation: Its name in the compiler, such as `all-reduce`.
        count: How often a step runs them, all turns of loops included.
        size_bytes: What one device gives to all of them together.
    """

    operation: str
    count: int
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One step on one accelerator.

    Attributes:
        name: The step's name.
        verdict: Whether it fits.
        message: The compiler's own words where it does not, or where it failed.
        hint: What to do next; empty where nobody knows.
        is_estimate: Whether the figures are of a program for CPUs, as no compiler for the
            accelerator was to be had.
        memory: What it takes.
        buffers: The largest, largest first.
        flops: Floating-point operations of one device, all turns of loops included; None where
            nobody has counted them.
        bytes_accessed: What one device reads and writes of its memory, likewise; None as above.
        collectives: How devices exchange data.
        compile_seconds: How long the compiler took here.
    """

    name: str
    verdict: Verdict
    message: str = ""
    hint: str = ""
    is_estimate: bool = False
    memory: StepMemory = field(default_factory=StepMemory)
    buffers: tuple[Buffer, ...] = ()
    flops: float | None = None
    bytes_accessed: float | None = None
    collectives: tuple[Collective, ...] = ()
    compile_seconds: float | None = None

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> StepReport:
        """Return a report as its runner has told it."""
        return cls(
            **{
                **told,
                "memory": StepMemory(**told.get("memory", {})),
                "buffers": tuple(Buffer(**each) for each in told.get("buffers", ())),
                "collectives": tuple(Collective(**each) for each in told.get("collectives", ())),
            }
        )


@dataclass(frozen=True, kw_only=True)
class TargetReport:
    """What is known of a function's steps on one accelerator.

    Attributes:
        accelerator: Its canonical name.
        steps: Each step; empty where nothing is known of any.
        problem: Why that is so; None where there are steps.
        message: The same in words.
        hint: What to do next.
        devices: How many devices the steps were given.
        seconds: How long the compiling process took.
        versions: Of the packages that compiled, by name.
        warnings: What the person should know, a sentence each.
    """

    accelerator: str
    steps: tuple[StepReport, ...] = ()
    problem: Problem | None = None
    message: str = ""
    hint: str = ""
    devices: int = 0
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def fits(self) -> bool | None:
        """Whether all steps fit; None where that is not known of each."""
        verdicts = {step.verdict for step in self.steps}
        if "exceeds" in verdicts:
            return False
        return True if verdicts == {"fits"} else None

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> TargetReport:
        """Return a report as its runner has told it."""
        return cls(
            **{
                **told,
                "steps": tuple(StepReport.from_json(each) for each in told.get("steps", ())),
                "warnings": tuple(told.get("warnings", ())),
            }
        )


@dataclass(frozen=True, kw_only=True)
class RehearsalRecord:
    """A rehearsal that was made, as it is kept.

    Attributes:
        function: The function's project, module and qualified name.
        code_sha256: Digest of the project's files, and of the rehearsal as it was pickled.
        environments: Dependency hash of the environment that compiled, by the accelerator's name.
        made_at: When, in seconds since 1970.
        reports: What it says, by accelerator, in the order that was asked for.
        run_ids: The runs that compiled.
    """

    function: str
    code_sha256: str
    environments: Mapping[str, str]
    made_at: float
    reports: tuple[TargetReport, ...]
    run_ids: tuple[str, ...] = ()

    def of(self, accelerator: str) -> TargetReport | None:
        """Return the report on an accelerator; None where it was not asked for."""
        return next((each for each in self.reports if each.accelerator == accelerator), None)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> RehearsalRecord:
        """Return a record that was kept."""
        return cls(
            **{
                **told,
                "reports": tuple(TargetReport.from_json(each) for each in told["reports"]),
                "run_ids": tuple(told.get("run_ids", ())),
            }
        )
