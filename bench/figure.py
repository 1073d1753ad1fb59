"""One measured value, for the benches that print values and nothing else."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; `size` is how many of what the bench is about (backends, streams)."""

    what: str
    size: int
    value: float
    unit: str
    note: str = ""


def table(figures: Sequence[Figure]) -> str:
    """The figures for people, sizes side by side."""
    rows: dict[str, list[Figure]] = {}
    for figure in figures:
        rows.setdefault(figure.what, []).append(figure)
    lines = []
    for what, found in rows.items():
        shown = "  ".join(f"{one.size:>5}: {one.value:>10.2f} {one.unit}" for one in found)
        lines.append(f"{what:<40} {shown}  {found[-1].note}".rstrip())
    return "\n".join(lines)


def as_json(bench: str, sizes: str, figures: Sequence[Figure]) -> dict[str, Any]:
    """The figures for programs. `sizes` names what `size` counts."""
    rows = [
        {
            "what": one.what,
            sizes: one.size,
            "value": round(one.value, 3),
            "unit": one.unit,
            "note": one.note,
        }
        for one in figures
    ]
    return {"bench": bench, "python": sys.version.split()[0], "figures": rows}
