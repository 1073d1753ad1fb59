"""Tables of figures: a name, and numbers that line up behind it."""

from rich.table import Table

_UNKNOWN = "-"


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


def figure(number: object, unit: str = "") -> str:
    """A number of things, the larger the shorter: 950, 12.3k, 4.56M."""
    if not isinstance(number, int | float):
        return _UNKNOWN
    for size, unit_of_size, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(number) >= size:
            shown = number / unit_of_size
            return f"{shown:.3g}{letter}{unit}" if abs(shown) < 999.5 else f"{shown:.0f}{letter}{unit}"
    return f"{number:g}{unit}"
