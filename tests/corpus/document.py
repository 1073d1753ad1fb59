"""The tables of docs/HTTP.md that are taken from the corpus.

Usage: python -m tests.corpus.document docs/HTTP.md      writes them into the page, between their markers
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.corpus.cases import RequestCase, ResponseCase
from tests.corpus.requests import REQUESTS
from tests.corpus.responses import RESPONSES

Case = RequestCase | ResponseCase


def cases() -> dict[str, Case]:
    """Every case by its full name, such as `requests/chunked/size-plus`."""
    requests = {f"requests/{subject}/{case.name}": case for subject in REQUESTS for case in REQUESTS[subject]}
    answers = {f"answers/{subject}/{case.name}": case for subject in RESPONSES for case in RESPONSES[subject]}
    return {**requests, **answers}


def with_tables(text: str) -> str:
    """The page with its generated tables as the corpus has them now. Raises ValueError without their markers."""
    found = cases()
    text = _between(text, "smuggling", smuggling_table(found))
    return _between(text, "nginx", nginx_table(found))


def smuggling_table(found: Mapping[str, Case]) -> list[str]:
    rows = _grouped((write_up(case.source), name) for name, case in found.items() if write_up(case.source))
    return [
        "| write-up | cases |",
        "|---|---|",
        *(f"| {key} | {_names(rows[key])} |" for key in sorted(rows, key=_year)),
    ]


def nginx_table(found: Mapping[str, Case]) -> list[str]:
    rows = _grouped((case.nginx, name) for name, case in found.items() if case.nginx)
    lines = ["| nginx, and why not vastproxy | vastproxy | cases |", "|---|---|---|"]
    for reason, names in rows.items():
        ours = ", ".join(dict.fromkeys(verdict(found[name]) for name in names))
        lines.append(f"| {reason} | {ours} | {_names(names)} |")
    return lines


def write_up(source: str) -> str:
    """Who described it, if not a standard: "Kettle, HTTP Desync Attacks, 2019"."""
    for part in source.replace(" (", ": ").split(": "):
        if part[-4:].isdigit() and part[-5:-4] == " " and "RFC" not in part:
            return part
    return "CVE-2023-39326" if source.startswith("CVE") else ""


def verdict(case: Case) -> str:
    if isinstance(case, ResponseCase):
        return "502" if case.status == 502 or case.partly else "broken" if not case.complete else "served"
    last = case.answers[-1] if case.answers else 0
    return "served" if last == 200 else str(last) if last else "no answer"


def _year(write_up: str) -> tuple[str, str]:
    return write_up[-4:] if write_up[-4:].isdigit() else "2023", write_up


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, name in pairs:
        groups.setdefault(key, []).append(name)
    return groups


def _names(full: Sequence[str]) -> str:
    """Cases by subject, the subject once: `requests/chunked`: a, b."""
    subjects = _grouped(tuple(name.rsplit("/", 1)) for name in full)  # type: ignore[misc]
    return "; ".join(f"`{subject}` {', '.join(names)}" for subject, names in subjects.items())


def _between(text: str, name: str, lines: Sequence[str]) -> str:
    begin, end = f"<!-- {name}:begin -->\n", f"<!-- {name}:end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the page has no markers for the table {name!r}")
    before, rest = text.split(begin)
    return before + begin + "\n".join(lines) + "\n" + end + rest.split(end)[1]


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_tables(page.read_text()))
