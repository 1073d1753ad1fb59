"""The plot of a soak as SVG: one band for each series, and a mark where something was broken. Pure."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.soak_chaos import Incident
from bench.soak_watch import SERIES, Sample

_WIDTH, _BAND, _LEFT, _RIGHT, _TOP = 900, 120, 70, 20, 40
_TITLES = {"rss_mb": "memory, MB", "fds": "descriptors", "threads": "threads", "tasks": "tasks"}
_COLOURS = {
    "sshd killed": "#c0392b",
    "engine killed": "#d68910",
    "engine frozen": "#2471a3",
    "api failing": "#7d3c98",
}


def draw(samples: Sequence[Sample], incidents: Sequence[Incident], began: float, title: str) -> str:
    """The whole picture. `began`: the monotonic time at which the samples' clock was 0."""
    names = [name for name in SERIES if any(getattr(one, name) is not None for one in samples)]
    height = _TOP + _BAND * len(names) + 50
    last_s = max((one.at_s for one in samples), default=1.0) or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15" fill="#222222">{escape(title)}</text>',
    ]
    bottom = _TOP + _BAND * len(names)
    for incident in incidents:
        parts.append(_mark(incident, began, last_s, bottom))
    for number, name in enumerate(names):
        parts += _band(samples, name, _TOP + number * _BAND, last_s)
    parts += _legend(bottom + 34)
    for minute in _minutes(last_s):
        x = _x(minute * 60, last_s)
        parts.append(
            f'<text x="{x:.1f}" y="{bottom + 14}" text-anchor="middle" fill="#555555">{minute:g} min</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _x(at_s: float, last_s: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * at_s / last_s


def _minutes(last_s: float) -> list[float]:
    step = next((s for s in (0.5, 1, 2, 5, 10, 30) if last_s / 60 / s <= 8), 60)
    return [n * step for n in range(int(last_s / 60 / step) + 1)]


def _band(samples: Sequence[Sample], name: str, top: int, last_s: float) -> list[str]:
    points = [(one.at_s, float(value)) for one in samples if (value := getattr(one, name)) is not None]
    most = max(value for _, value in points) * 1.15 or 1.0
    line = " ".join(
        f"{_x(at, last_s):.1f},{top + _BAND - 14 - (_BAND - 24) * value / most:.1f}" for at, value in points
    )
    floor = top + _BAND - 14
    return [
        f'<line x1="{_LEFT}" y1="{floor}" x2="{_WIDTH - _RIGHT}" y2="{floor}" stroke="#bbbbbb"/>',
        f'<text x="{_LEFT - 8}" y="{floor}" text-anchor="end" fill="#555555">0</text>',
        f'<text x="{_LEFT - 8}" y="{top + 14}" text-anchor="end" fill="#555555">{most:.0f}</text>',
        f'<text x="{_LEFT + 6}" y="{top + 14}" fill="#222222">{_TITLES[name]}</text>',
        f'<polyline points="{line}" fill="none" stroke="#1e8449" stroke-width="1.5"/>',
    ]


def _mark(incident: Incident, began: float, last_s: float, bottom: int) -> str:
    start, end = (min(max(at - began, 0.0), last_s) for at in (incident.began, incident.ended))
    x, width = _x(start, last_s), max(1.0, _x(end, last_s) - _x(start, last_s))
    colour = _COLOURS.get(incident.kind, "#888888")
    return f'<rect x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{bottom - _TOP}" fill="{colour}" opacity="0.18"/>'


def _legend(y: int) -> list[str]:
    parts, x = [], _LEFT
    for kind, colour in _COLOURS.items():
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}" opacity="0.4"/>')
        parts.append(f'<text x="{x + 18}" y="{y}" fill="#555555">{kind}</text>')
        x += 130
    return parts
