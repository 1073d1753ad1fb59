"""The picture of the simulation of policies as SVG: a row for each workload, a panel for each figure. Pure."""

from collections.abc import Callable, Mapping
from xml.sax.saxutils import escape

from bench.policies_run import Outcome

_LEFT, _TOP, _PANEL, _GAP = 130, 50, 190, 16
_BAR, _TITLE = 18, 30
_COLOURS = ("#1e8449", "#2471a3", "#888888", "#d68910")

_PANELS: tuple[tuple[str, Callable[[Outcome], float], Callable[[float], str]], ...] = (
    ("TTFT p50", lambda each: each.ttft_p50_s, lambda value: f"{value:.2f} s"),
    ("TTFT p99", lambda each: each.ttft_p99_s, lambda value: f"{value:.1f} s"),
    ("prefix hits", lambda each: each.hit_rate, lambda value: f"{value:.0%}"),
    ("$ per million tokens", lambda each: each.dollars_per_million, lambda value: f"{value:.2f}"),
)


def draw(results: Mapping[str, Mapping[str, Outcome]], titles: Mapping[str, str]) -> str:
    """The whole picture. `titles`: of the workloads, by name."""
    heights = [_TITLE + _BAR * len(outcomes) + _GAP for outcomes in results.values()]
    width, height = _LEFT + len(_PANELS) * (_PANEL + _GAP), _TOP + sum(heights)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        '<text x="12" y="22" font-size="15" fill="#222222">Policies on a simulated mixed fleet</text>',
    ]
    for number, (panel, _, _) in enumerate(_PANELS):
        parts.append(f'<text x="{_x(number)}" y="{_TOP - 6}" fill="#555555">{panel}</text>')
    top = _TOP
    for (name, outcomes), tall in zip(results.items(), heights, strict=True):
        parts += _row(escape(titles[name]), outcomes, top)
        top += tall
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(panel: int) -> int:
    return _LEFT + panel * (_PANEL + _GAP)


def _row(title: str, outcomes: Mapping[str, Outcome], top: int) -> list[str]:
    parts = [f'<text x="12" y="{top + 18}" font-weight="bold" fill="#222222">{title}</text>']
    for number, (policy, outcome) in enumerate(outcomes.items()):
        y = top + _TITLE + number * _BAR
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 12}" text-anchor="end" fill="#222222">{policy}</text>')
        for panel, (_, read, show) in enumerate(_PANELS):
            value, most = read(outcome), max(read(each) for each in outcomes.values())
            length = (_PANEL - 60) * value / most if most > 0 else 0.0
            colour = _COLOURS[number % len(_COLOURS)]
            parts.append(
                f'<rect x="{_x(panel)}" y="{y + 2}" width="{length:.1f}" height="{_BAR - 5}" fill="{colour}"/>'
            )
            parts.append(
                f'<text x="{_x(panel) + length + 5:.1f}" y="{y + 13}" fill="#555555">{show(value)}</text>'
            )
    return parts
