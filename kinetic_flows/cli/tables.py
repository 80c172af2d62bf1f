"""Tables on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from kinetic_flows.core.display import for_line


def print_table(lines: Sequence[Sequence[str]]) -> None:
    """Print lines of cells, each column as wide as its widest cell.

    Not with rich's table, which cuts or folds what is wider than the terminal (than 80 columns in
    a pipe) and pads every line: ids, digests and references have to stay whole.
    """
    lines = [[for_line(cell) for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip())
