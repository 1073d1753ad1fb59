"""Writes docs/METRICS.md from the list of metrics: `python -m vastproxy.services.metrics.document FILE`.

The text between the two markers is replaced; the rest of the page is for people to write.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from vastproxy.services.metrics.exposition import Family
from vastproxy.services.metrics.families import CATALOGUE

BEGIN = "<!-- begin: generated from the list of metrics -->"
END = "<!-- end -->"


def tables() -> str:
    """A table of metrics for each chapter."""
    return "\n".join(_chapter(title, families) for title, families in CATALOGUE.items())


def with_tables(text: str) -> str:
    """The page with the part between the markers replaced. Raises ValueError if a marker is missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"expected the markers {BEGIN} and {END}")
    return f"{before}{begin}\n\n{tables()}\n{end}{after}"


def _chapter(title: str, families: Iterable[Family]) -> str:
    rows = "".join(
        f"| `{one.name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help} |\n"
        for one in families
    )
    return f"### {title}\n\n| Name | Kind | Labels | What it tells |\n|---|---|---|---|\n{rows}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write each named page anew."""
    for name in sys.argv[1:] if arguments is None else arguments:
        page = Path(name)
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
