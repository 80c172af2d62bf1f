"""An image to be assembled, as a value: equal values make equal images, whoever makes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from kinetic_flows.core.wheel_file import WheelFile

Start = Literal["upstream", "base", "nothing"]


@dataclass(frozen=True, kw_only=True)
class Assembly:
    """An image to be assembled.

    Attributes:
        reference: Name, with a tag, that it gets.
        also: Further names, with tags.
        layers: Name, without a tag, of the image that keeps layers in the same repository.
        start: What it starts from, by digest: an image of Python as Docker Hub has it, one of our
            own bases, or nothing (its layers are then mounted as a volume).
        starts_from: Which of these.
        python: Python minor version.
        platform: uv's name of the platform, such as `x86_64-manylinux_2_36`.
        wheels: The wheels it gets, sorted by name. One of a package that a base has in another
            version takes that one's place.
        files: Further files, by their absolute path.
        environment: Variables it sets; `$NAME` stands for the value that it starts with.
        command: What it runs by default; None to leave that as it is.
        labels: Labels it gets beside those it starts with.
    """

    reference: str
    also: tuple[str, ...] = ()
    layers: str
    start: str = ""
    starts_from: Start
    python: str
    platform: str
    wheels: tuple[WheelFile, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether no packages are beside its own: what is mounted has those of another image."""
        return self.starts_from != "nothing"

    def to_json(self) -> str:
        """Return it as text, for an assembler elsewhere."""
        files = {path: base64.b64encode(data).decode() for path, data in self.files.items()}
        return json.dumps({**asdict(self), "files": files}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Assembly:
        """Read what `to_json` wrote."""
        found = json.loads(text)
        command = found["command"]
        return cls(
            **{
                **found,
                "also": tuple(found["also"]),
                "wheels": tuple(WheelFile(**wheel) for wheel in found["wheels"]),
                "files": {path: base64.b64decode(data) for path, data in found["files"].items()},
                "command": None if command is None else tuple(command),
            }
        )
