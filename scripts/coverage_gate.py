"""Fail when a package of vastproxy is covered by less than the minimum. Every package counts for itself,
so that a well tested one does not hide its neighbour.

Usage: python scripts/coverage_gate.py REPORT.json [--minimum 90]

REPORT.json is written by `coverage json`. Lines and branches count alike, as in coverage's own total.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Coverage:
    """What can be covered in one package, and what is."""

    covered: int = 0
    total: int = 0

    def add(self, summary: Mapping[str, Any]) -> None:
        self.covered += summary["covered_lines"] + summary.get("covered_branches", 0)
        self.total += summary["num_statements"] + summary.get("num_branches", 0)

    @property
    def percent(self) -> float:
        return 100.0 * self.covered / self.total if self.total else 100.0


def package_of(path: str, packages: Iterable[str]) -> str:
    """The innermost package that a source file belongs to: `src/services/routing/retry.py` is of
    `vastproxy.services.routing`."""
    parts = Path(path).with_suffix("").parts
    module = ".".join(("vastproxy", *parts[parts.index("src") + 1 :]))
    return max((p for p in packages if module == p or module.startswith(p + ".")), key=len)


def by_package(report: Mapping[str, Any], packages: Iterable[str]) -> dict[str, Coverage]:
    """Coverage of each package. One without any measured file is an error of the measurement."""
    names = sorted(packages)
    found: dict[str, Coverage] = {}
    for path, file in report["files"].items():
        found.setdefault(package_of(path, names), Coverage()).add(file["summary"])
    if unmeasured := [name for name in names if name not in found]:
        raise SystemExit(f"coverage gate: no file was measured in {', '.join(unmeasured)}")
    return found


def table(coverage: Mapping[str, Coverage], minimum: float) -> list[str]:
    """One line for each package, the failing ones marked."""
    width = max(map(len, coverage))
    return [
        f"{name:<{width}}  {it.covered:>6} of {it.total:>6}  {it.percent:6.2f} %"
        + ("" if it.percent >= minimum else f"   below {minimum:g} %")
        for name, it in sorted(coverage.items())
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Coverage of every package against a minimum.")
    parser.add_argument("report", type=Path)
    parser.add_argument("--minimum", type=float, default=90.0)
    options = parser.parse_args(arguments)
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = config["tool"]["setuptools"]["packages"]
    coverage = by_package(json.loads(options.report.read_text()), packages)
    print("\n".join(table(coverage, options.minimum)))
    failing = [name for name, it in coverage.items() if it.percent < options.minimum]
    if failing:
        print(f"coverage gate: {len(failing)} of {len(coverage)} packages are below {options.minimum:g} %")
        return 1
    print(f"coverage gate: all {len(coverage)} packages reach {options.minimum:g} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
