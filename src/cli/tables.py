"""Tables of figures: a name, and numbers that line up behind it."""

from rich.table import Table

_UNKNOWN = "-"
_SIZES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def table(name: str, *figures: str) -> Table:
    """A table of named rows of figures, without a frame, as all tables of ours."""
    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    made.add_column(name, overflow="fold", min_width=10)
    for each in figures:
        made.add_column(each, justify="right", no_wrap=True)
    return made


def amount(dollars: object) -> str:
    """Dollars: cents, or as far behind the point as it takes to see anything."""
    if not isinstance(dollars, int | float):
        return _UNKNOWN
    if dollars == 0 or abs(dollars) >= 0.995:
        return f"{dollars:,.2f}"
    return f"{dollars:.3f}" if abs(dollars) >= 0.0995 else f"{dollars:.4f}"


def figure(number: object, unit: str = "", *, whole_from: float = 10_000.0) -> str:
    """A number of things, the larger the shorter: 950, 12.3k, 4.56M. `whole_from`: from there on without a fraction."""
    if not isinstance(number, int | float):
        return _UNKNOWN
    if abs(number) < 9_999.5:
        return f"{number:.0f}{unit}" if abs(number) >= whole_from else f"{number:g}{unit}"
    rounded = float(f"{number:.3g}")  # first, so that 999,950 becomes 1M and not 1000k
    size, letter = next(each for each in _SIZES if abs(rounded) >= each[0])
    return f"{rounded / size:g}{letter}{unit}"
