"""Contrast of text as a browser shows it (WCAG 2.2, 1.4.3)."""

import re
from collections.abc import Sequence

#: In a page: every text that is seen, its colour, the colours of what lies below it from its own up, size and weight.
TEXTS = """() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim(), one = walker.currentNode.parentElement;
        if (!text || !one.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
        if (one.closest('.unseen, script, style, noscript') || one.matches('button:disabled')) continue;
        const style = getComputedStyle(one), grounds = [];
        for (let at = one; at; at = at.parentElement) grounds.push(getComputedStyle(at).backgroundColor);
        const colour = one instanceof SVGElement ? style.fill : style.color;
        found.push([text.slice(0, 60), colour, grounds, parseFloat(style.fontSize), parseFloat(style.fontWeight)]);
    }
    return found;
}"""

_NUMBER = re.compile(r"[\d.]+")


def _rgba(colour: str) -> tuple[float, float, float, float]:
    """`rgb(…)` and `rgba(…)` in 0..255, `color(srgb …)` in 0..1, as computed styles have them."""
    values = [float(number) for number in _NUMBER.findall(colour)]
    if colour.startswith("color("):
        values = [*(value * 255 for value in values[:3]), *values[3:]]
    red, green, blue = values[:3]
    return red, green, blue, values[3] if len(values) > 3 else 1.0


def _over(above: Sequence[float], below: Sequence[float]) -> tuple[float, float, float, float]:
    share = above[3]
    red, green, blue = (
        share * one + (1 - share) * other for one, other in zip(above[:3], below[:3], strict=True)
    )
    return red, green, blue, 1.0


def _luminance(colour: Sequence[float]) -> float:
    parts = [value / 255 for value in colour[:3]]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ratio(colour: str, grounds: Sequence[str]) -> float:
    """Of text of this colour over these grounds, the uppermost first; white lies below all."""
    below = (255.0, 255.0, 255.0, 1.0)
    for ground in reversed(grounds):
        below = _over(_rgba(ground), below)
    one, other = sorted((_luminance(_over(_rgba(colour), below)), _luminance(below)))
    return (other + 0.05) / (one + 0.05)
