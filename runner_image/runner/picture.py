"""A picture of what a host of a run used, over time: SVG, for the run's page and for notebooks.

Its colours are of a middle lightness on no ground of their own, so that it can be read on a light
page and on a dark one. https://www.w3.org/TR/SVG2/
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from .readings import Reading, merge

MOST_POINTS = 100
WIDTH, LEFT, RIGHT = 720, 96, 146
ROW_HEIGHT, CHART_HEIGHT, TOP = 58, 42, 8
AXIS_HEIGHT = 20

_TEXT, _GRID = "#7b8494", "#8886"
_BLUE, _GREEN, _ORANGE, _VIOLET = "#3b82f6", "#16a34a", "#ea8a1c", "#9b6bf2"
_FONT = "system-ui, -apple-system, Segoe UI, Roboto, sans-serif"

Value = Callable[[Reading], float | None]


class Line(NamedTuple):
    """A line of a chart.

    Attributes:
        value: Its height for a reading; None where there is nothing to show.
        colour: Its colour.
        name: What it is, where a chart has several.
    """

    value: Value
    colour: str
    name: str = ""


class Chart(NamedTuple):
    """A row of the picture.

    Attributes:
        title: What it shows.
        lines: Its lines.
        top: What its upper edge stands for; None for the highest value.
        words: Says what a height is.
        is_amount: Whether the most of it matters, and not the mean.
    """

    title: str
    lines: tuple[Line, ...]
    top: float | None
    words: Callable[[float], str]
    is_amount: bool = False


def draw(readings: Sequence[Reading], *, chip_kind: str = "", cpus: float | None = None) -> str:
    """Return a picture as SVG; empty where there is nothing to draw.

    Args:
        readings: The readings, in order.
        chip_kind: `gpu`, `tpu`, or empty.
        cpus: How many CPUs may be used; None where that is not known.
    """
    charts = [
        chart
        for chart in _charts(readings, chip_kind, cpus)
        if any(line.value(each) is not None for line in chart.lines for each in readings)
    ]
    if len(readings) < 2 or not charts:
        return ""
    points = _thinned(readings)
    height = TOP + ROW_HEIGHT * len(charts) + AXIS_HEIGHT
    rows = "".join(
        f'<g transform="translate(0 {TOP + ROW_HEIGHT * number})">{_row(chart, points)}</g>'
        for number, chart in enumerate(charts)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="{_FONT}" font-size="11" fill="{_TEXT}">'
        f"<title>What the run used</title>{rows}{_axis(points, height)}</svg>"
    )


def as_image(svg: str) -> str:
    """Return a picture as an image of Markdown that holds all of it."""
    data = base64.b64encode(svg.encode()).decode()
    return f"![What the run used, over time](data:image/svg+xml;base64,{data})"


def _charts(readings: Sequence[Reading], kind: str, cpus: float | None) -> Iterator[Chart]:
    name = {"gpu": "GPU", "tpu": "TPU"}.get(kind, "chip")
    yield Chart(
        f"{name} use",
        (Line(_chip_use, _GREEN, "used"), Line(_tensor_core, _VIOLET, "tensor cores")),
        100.0,
        lambda value: f"{value:.0f} %",
    )
    yield Chart(
        f"{name} memory",
        (Line(_chip_memory, _VIOLET),),
        _highest(readings, _chip_memory_total),
        _gibibytes,
        is_amount=True,
    )
    yield Chart("CPUs", (Line(lambda each: each.cpus, _BLUE),), cpus, lambda value: f"{value:.1f}")
    limit = _highest(readings, lambda each: each.memory_limit_bytes)
    yield Chart(
        "memory",
        (Line(lambda each: each.memory_bytes, _ORANGE),),
        limit,
        _gibibytes,
        is_amount=True,
    )
    yield Chart(
        "network",
        (
            Line(lambda each: each.network_received_bytes_per_second, _BLUE, "in"),
            Line(lambda each: each.network_sent_bytes_per_second, _ORANGE, "out"),
        ),
        None,
        _rate,
    )
    yield Chart(
        "disk",
        (
            Line(lambda each: each.disk_read_bytes_per_second, _BLUE, "read"),
            Line(lambda each: each.disk_written_bytes_per_second, _ORANGE, "written"),
        ),
        None,
        _rate,
    )


# Values


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _chip_use(reading: Reading) -> float | None:
    return _mean_of([chip.used_percent for chip in reading.chips])


def _tensor_core(reading: Reading) -> float | None:
    return _mean_of([chip.tensor_core_percent for chip in reading.chips])


def _chip_memory(reading: Reading) -> float | None:
    known = [chip.memory_bytes for chip in reading.chips if chip.memory_bytes is not None]
    return sum(known) if known else None


def _chip_memory_total(reading: Reading) -> float | None:
    known = [each.memory_total_bytes for each in reading.chips if each.memory_total_bytes]
    return sum(known) if known else None


def _highest(readings: Sequence[Reading], value: Value) -> float | None:
    return max((found for each in readings if (found := value(each)) is not None), default=None)


def _mean(readings: Sequence[Reading], value: Value) -> float:
    known = [(found, each.seconds) for each in readings if (found := value(each)) is not None]
    return sum(found * each for found, each in known) / (sum(each for _, each in known) or 1.0)


def _thinned(readings: Sequence[Reading]) -> list[Reading]:
    """Return no more points than can be told apart."""
    size = -(-len(readings) // MOST_POINTS)
    return [merge(readings[place : place + size]) for place in range(0, len(readings), size)]


# Drawing


def _row(chart: Chart, points: Sequence[Reading]) -> str:
    highest = max(_highest(points, line.value) or 0.0 for line in chart.lines)
    top = max(chart.top or 0.0, highest) or 1.0
    right = WIDTH - RIGHT
    shown = [line for line in chart.lines if _highest(points, line.value) is not None]
    lines = "".join(_line(line, points, top) for line in shown)
    return (
        f'<text x="0" y="{CHART_HEIGHT / 2 + 4:g}">{escape(chart.title)}</text>'
        f'<path d="M{LEFT} 0H{right}M{LEFT} {CHART_HEIGHT}H{right}" stroke="{_GRID}"/>'
        f"{lines}{_legend(chart, shown, points, top)}"
    )


def _legend(chart: Chart, lines: Sequence[Line], points: Sequence[Reading], top: float) -> str:
    """Return what stands right of a chart: its scale, and each line in a number."""
    x = WIDTH - RIGHT + 8
    texts = [f'<text x="{x}" y="6" font-size="9">{escape(chart.words(top))}</text>']
    for number, line in enumerate(lines):
        name = f"{line.name} " if len(lines) > 1 else ""
        if chart.is_amount:
            text = f"{name}most {chart.words(_highest(points, line.value) or 0.0)}"
        else:
            text = f"{name}mean {chart.words(_mean(points, line.value))}"
        y = 22 + 13 * number
        texts.append(f'<text x="{x}" y="{y}" fill="{line.colour}">{escape(text)}</text>')
    return "".join(texts)


def _line(line: Line, points: Sequence[Reading], top: float) -> str:
    """Return a line, broken where nothing was read, and the area below it."""
    return "".join(
        f'<path d="{_path(piece, line.value, points, top)}" fill="{line.colour}" '
        f'fill-opacity=".15" stroke="{line.colour}" stroke-width="1.5"/>'
        for piece in _pieces(points, line.value)
    )


def _pieces(points: Sequence[Reading], value: Value) -> list[list[Reading]]:
    pieces: list[list[Reading]] = []
    before: Reading | None = None
    for point in points:
        if value(point) is None:
            before = None
            continue
        is_gap = before is None or point.at - point.seconds > before.at + before.seconds
        if is_gap:
            pieces.append([])
        pieces[-1].append(point)
        before = point
    return pieces


def _path(piece: Sequence[Reading], value: Value, points: Sequence[Reading], top: float) -> str:
    """Return where a line goes: level for as long as each of its points lasted, from the ground."""
    begin, end = points[0].at - points[0].seconds, points[-1].at
    scale = (WIDTH - LEFT - RIGHT) / max(end - begin, 1e-9)
    first = LEFT + scale * (piece[0].at - piece[0].seconds - begin)
    steps = [f"M{first:.1f} {CHART_HEIGHT}"]
    for point in piece:
        y = CHART_HEIGHT * (1 - (value(point) or 0.0) / top)
        steps.append(f"V{y:.1f}H{LEFT + scale * (point.at - begin):.1f}")
    return "".join([*steps, f"V{CHART_HEIGHT}"])


def _axis(points: Sequence[Reading], height: int) -> str:
    seconds = points[-1].at - points[0].at + points[0].seconds
    width = WIDTH - LEFT - RIGHT
    anchors = ((0.0, "start"), (0.5, "middle"), (1.0, "end"))
    return "".join(
        f'<text x="{LEFT + width * share:g}" y="{height - 6}" text-anchor="{anchor}" '
        f'font-size="10">{_duration(seconds * share)}</text>'
        for share, anchor in anchors
    )


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole / 60:.0f} min"
    return f"{whole / 3600:.1f} h"


def _gibibytes(count: float) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"


def _rate(count: float) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}/s"
    return f"{count:.0f} B/s"
