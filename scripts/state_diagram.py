"""Writes the state diagram of a backend, made from its transition table, into a document between two markers."""

import sys
from pathlib import Path

from vastproxy.services.backends.state import mermaid

BEGIN = "<!-- state diagram: begin (made by `make docs`) -->\n"
END = "<!-- state diagram: end -->\n"


def with_diagram(text: str) -> str:
    """The document with the diagram as the table has it now. Raises ValueError without the markers."""
    before, found, rest = text.partition(BEGIN)
    _, also_found, after = rest.partition(END)
    if not (found and also_found):
        raise ValueError("the markers of the state diagram are missing")
    return f"{before}{BEGIN}```mermaid\n{mermaid()}```\n{END}{after}"


def main() -> None:
    path = Path(sys.argv[1])
    path.write_text(with_diagram(path.read_text()))


if __name__ == "__main__":
    main()
