"""Print the part of requirements.lock that running vastproxy needs: its dependencies, theirs, and setuptools,
which builds it. Versions and hashes stay as they are.

Usage: python scripts/lock_subset.py requirements.lock [[--with-needs] PACKAGE …]

With names it prints only those packages, and with --with-needs also what these need.

The lock says of each package for whose sake it is there (`# via`); `vastproxy (pyproject.toml)` is a
dependency, `vastproxy (pyproject.toml:dev)` one for development only.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = "vastproxy (pyproject.toml)"
#: Builds vastproxy; in the lock because a development package needs it.
BUILD = "setuptools"

_PINNED = re.compile(r"^(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[^\s;\\]+)")


@dataclass(frozen=True)
class Locked:
    """One package of the lock: its lines as they are, and the names of those that need it."""

    name: str
    version: str
    lines: tuple[str, ...]
    via: frozenset[str]


def parse_lock(text: str) -> dict[str, Locked]:
    """The packages of a lock written by `uv pip compile`, by name."""
    blocks: list[list[str]] = []
    for line in text.splitlines():
        if _PINNED.match(line):
            blocks.append([line])
        elif blocks and line.startswith(" "):
            blocks[-1].append(line)
    return {package.name: package for package in map(_parse_block, blocks)}


def _parse_block(lines: list[str]) -> Locked:
    pinned = _PINNED.match(lines[0])
    assert pinned is not None
    comments = (line.strip().removeprefix("#").strip() for line in lines if line.lstrip().startswith("#"))
    via = frozenset(comment.removeprefix("via").strip() for comment in comments) - {""}
    code = tuple(line for line in lines if not line.lstrip().startswith("#"))
    return Locked(pinned["name"], pinned["version"], code, via)


def runtime(packages: dict[str, Locked]) -> list[Locked]:
    """Those that PROJECT needs, directly or not, and BUILD."""
    wanted = with_needs(packages, {PROJECT})
    return [package for name, package in packages.items() if name in wanted or name == BUILD]


def with_needs(packages: dict[str, Locked], wanted: set[str]) -> set[str]:
    """These names, and those of all packages that they need, directly or not."""
    wanted = set(wanted)
    while more := {p.name for p in packages.values() if p.via & wanted} - wanted:
        wanted |= more
    return wanted


def main() -> None:
    path, *names = sys.argv[1:]
    packages = parse_lock(Path(path).read_text())
    if names[:1] == ["--with-needs"]:
        names = sorted(with_needs(packages, set(names[1:])))
    for package in [packages[name] for name in names] or runtime(packages):
        sys.stdout.write("\n".join(package.lines) + "\n")


if __name__ == "__main__":
    main()
