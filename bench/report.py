"""Tables, verdicts and plots from a run's JSON, into docs/: the text between the markers of PERFORMANCE.md is ours.

A marker pair is `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`, each on a line of its own.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import tables
from bench.contenders.routers import BENCH_PYTHON, ROOT
from bench.figures import Results, spread
from bench.plots import PLOTS
from bench.processes import BenchError
from bench.run import FORMAT, save

PAGE = "PERFORMANCE.md"
SUMMARY = "performance.json"


def read_results(path: Path) -> Results:
    """What `run` has written. Raises BenchError when it is something else."""
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise BenchError(f"{path} is not JSON") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT or "samples" not in document:
        raise BenchError(f"{path} was not written by this version of the bench")
    return Results(document)


def write_report(path: Path, docs: Path) -> Iterator[Path]:
    """Write everything, and name each file as it is written. Raises BenchError."""
    results = read_results(path)
    page = docs / PAGE
    text = page.read_text()
    summary = docs / SUMMARY
    save(summarise(results), summary)
    yield summary
    yield from draw(summary, docs / "images")
    for name, content in sections(results, docs / "images").items():
        text = put_between(text, name, content)
    page.write_text(text)
    yield page


def sections(results: Results, images: Path) -> dict[str, str]:
    """What stands between the markers, by name."""
    shown = [f"![{what}](images/{name})" for name, what in PLOTS.items() if (images / name).exists()]
    return {
        "machine": f"{tables.machine_table(results)}\n\nAll figures: [{SUMMARY}]({SUMMARY}).",
        "targets": tables.targets_table(results),
        "plots": "\n\n".join(shown),
        "works": tables.works_sections(results),
        "generator": tables.generator_table(results),
        "doubts": tables.doubts(results),
    }


def put_between(text: str, name: str, content: str) -> str:
    """The text with `content` between the markers `name`. Raises BenchError when they are not there once."""
    pattern = re.compile(rf"(?ms)^(<!-- bench:{name} -->\n).*?^(<!-- /bench:{name} -->)$")
    new, count = pattern.subn(lambda found: f"{found[1]}\n{content}\n\n{found[2]}", text)
    if count != 1:
        raise BenchError(f"expected the markers bench:{name} once in the page, found them {count} times")
    return new


def summarise(results: Results) -> dict[str, Any]:
    """Every figure as [median, least, greatest] over the rounds."""
    works: dict[str, Any] = {}
    document = results.document
    for sample in document["samples"]:
        works.setdefault(sample["work"], {}).setdefault(sample["contender"], {})
    for work, contenders in works.items():
        for contender, figures in contenders.items():
            samples = [s for s in document["samples"] if (s["work"], s["contender"]) == (work, contender)]
            for name in dict.fromkeys(name for s in samples for name in s.get("figures") or {}):
                found = spread([s["figures"][name] for s in samples if name in (s.get("figures") or {})])
                if found is not None:
                    figures[name] = [found.median, found.low, found.high]
            if (error := results.error(work, contender)) is not None:
                figures["error"] = error
    kept = {name: document[name] for name in ("format", "taken", "machine", "versions", "options")}
    return {**kept, "works": works}


def draw(summary: Path, images: Path) -> list[Path]:
    """The plots, by the interpreter that has matplotlib; none, with a word why, where it is missing."""
    if not BENCH_PYTHON.exists():
        raise BenchError(f"{BENCH_PYTHON.relative_to(ROOT)} is missing and has matplotlib; run make bench")
    argv = [str(BENCH_PYTHON), "-m", "bench.plots", str(summary.resolve()), str(images.resolve())]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise BenchError(f"drawing failed: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    return [Path(line) for line in done.stdout.splitlines() if line]
