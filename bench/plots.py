"""Plots of a run, as SVG that is readable on light and on dark pages: `python -m bench.plots SUMMARY FOLDER`.

Runs in the bench's own virtual environment, the only one that has matplotlib; imports nothing of vastproxy.
"""

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: File name -> what it shows.
PLOTS: dict[str, str] = {
    "perf-cpu-request.svg": "CPU per request, 32 connections",
    "perf-cpu-token.svg": "CPU per streamed token, 400 streams",
    "perf-lag.svg": "Token lag p50 and p99, 400 streams",
    "perf-memory.svg": "Memory of each of 4,000 streams",
}
#: File name -> work, figures, unit.
_SOURCES: dict[str, tuple[str, tuple[str, ...], str]] = {
    "perf-cpu-request.svg": ("json-32", ("cpu_us_per_request",), "µs"),
    "perf-cpu-token.svg": ("sse-400", ("cpu_us_per_token",), "µs"),
    "perf-lag.svg": ("sse-400", ("lag_p50_ms", "lag_p99_ms"), "ms"),
    "perf-memory.svg": ("sse-4000", ("kb_per_stream",), "KB"),
}
_GREY = "#7d8590"
_OURS, _THEIRS = "#2f81f7", "#9aa4b0"
#: A bar this many times longer than the next is cut, and says how long it would be.
_TOO_LONG = 4.0


def bars(works: Mapping[str, Any], work: str, figure: str) -> dict[str, tuple[float, float, float]]:
    """Contender -> median, least and greatest. Only those that have the figure."""
    found = works.get(work, {})
    return {name: tuple(figures[figure]) for name, figures in found.items() if figure in figures}


def limit(values: Sequence[float]) -> float:
    """Where the axis ends: beyond the longest bar, unless that one dwarfs all others."""
    ordered = sorted(values, reverse=True)
    longest = ordered[0]
    if len(ordered) > 1 and ordered[1] > 0 and longest > _TOO_LONG * ordered[1]:
        longest = ordered[1]
    return longest * 1.35 or 1.0


def draw(plt: Any, works: Mapping[str, Any], name: str, folder: Path) -> Path | None:
    """One plot; None when nothing of it was measured."""
    work, figures, unit = _SOURCES[name]
    series = [bars(works, work, figure) for figure in figures]
    contenders = list(series[0])
    if not contenders:
        return None
    height = 0.34 * len(contenders) * len(figures) + 0.7
    figure, axes = plt.subplots(figsize=(6.4, height))
    end = limit([one[contender][0] for one in series for contender in contenders if contender in one])
    thick = 0.8 / len(series)
    for index, found in enumerate(series):
        for row, contender in enumerate(contenders):
            if contender in found:
                place = row + (index - (len(series) - 1) / 2) * thick
                label = figures[index].split("_")[1] if len(series) > 1 else ""
                _bar(axes, place, thick, found[contender], contender, end, unit, label)
    axes.set_yticks(range(len(contenders)), contenders)
    axes.invert_yaxis()
    axes.set_xlim(0, end)
    axes.set_title(f"{PLOTS[name]} ({unit}; less is better)", loc="left", fontsize=9, color=_GREY)
    axes.tick_params(colors=_GREY, labelsize=8, length=0)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)
    axes.spines["left"].set_color(_GREY)
    axes.set_xticks([])
    path = folder / name
    figure.savefig(path, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return path


def _bar(
    axes: Any,
    place: float,
    thick: float,
    values: tuple[float, float, float],
    contender: str,
    end: float,
    unit: str,
    label: str,
) -> None:
    median, low, high = values
    shown = min(median, end * 0.78)
    colour = _OURS if contender.startswith("vastproxy") else _THEIRS
    axes.barh(place, shown, height=thick * 0.85, color=colour, alpha=0.65 if label == "p99" else 1.0)
    if shown == median and high > low:
        axes.plot([low, min(high, end)], [place, place], color=_GREY, linewidth=1)
    text = f"{median:,.0f}" if median >= 100 else f"{median:.3g}"
    text = f"{text} {unit} {label}".strip() + (" →" if shown < median else "")
    axes.text(
        max(shown, min(high, end * 0.8)) + end * 0.01, place, text, va="center", fontsize=8, color=_GREY
    )


def main(argv: Sequence[str]) -> int:
    summary, folder = Path(argv[0]), Path(argv[1])
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "vastproxy", "font.family": "sans-serif"}
    plt: Any = importlib.import_module("matplotlib.pyplot")
    works = json.loads(summary.read_text())["works"]
    folder.mkdir(parents=True, exist_ok=True)
    for name in PLOTS:
        path = draw(plt, works, name, folder)
        if path is not None:
            sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
