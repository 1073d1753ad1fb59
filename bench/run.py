"""A whole run: every work, round by round, the contenders in turn."""

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.console import say
from bench.contenders.all import CONTENDERS
from bench.contenders.routers import BENCH_PYTHON
from bench.machine import describe_machine, describe_versions, raise_file_limit
from bench.measure import Durations, Figures, measure
from bench.processes import BenchError
from bench.works import WORKS, Work

FORMAT = 1
#: What is shown of a sample while the run goes on.
_SHOWN = (
    "rps",
    "cpu_us_per_request",
    "tokens_per_s",
    "cpu_us_per_token",
    "p50_ms",
    "lag_p50_ms",
    "lag_p99_ms",
)
_SHOWN_TOO = ("kb_per_stream", "errors", "broken", "contender_cpu_share", "core0_share")


def run_all(
    works: Sequence[str], contenders: Sequence[str], *, rounds: int, durations: Durations, out: Path
) -> dict[str, Any]:
    """Measure, and write what is known after every sample, so that an interrupted run is not lost."""
    document = {
        "format": FORMAT,
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(),
        "versions": describe_versions(BENCH_PYTHON),
        "options": {
            "rounds": rounds,
            "warm_up_s": durations.warm_up_s,
            "measure_s": durations.measure_s,
            "file_limit": raise_file_limit(),
        },
        "samples": [],
    }
    for name in works:
        work = WORKS[name]
        taking_part = [one for one in contenders if one in work.contenders]
        for round_number in range(1, rounds + 1):
            for contender in taking_part:
                sample = take_sample(work, contender, round_number, durations)
                document["samples"].append(sample)  # type: ignore[attr-defined]
                save(document, out)
    return document


def take_sample(work: Work, contender: str, round_number: int, durations: Durations) -> dict[str, Any]:
    """One sample; a contender that cannot start or serve is a sample with an error."""
    sample: dict[str, Any] = {"work": work.name, "contender": contender, "round": round_number}
    began = time.monotonic()
    try:
        with _directory() as directory:
            figures = measure(work, CONTENDERS[contender], directory, durations)
    except BenchError as error:
        sample["error"] = str(error)
        say(f"{work.name} {contender} #{round_number}: FAILED: {error}")
        return sample
    sample["figures"] = {name: round(value, 4) for name, value in figures.items()}
    sample["took_s"] = round(time.monotonic() - began, 1)
    say(f"{work.name} {contender} #{round_number}: {summary(figures)}")
    return sample


def summary(figures: Figures) -> str:
    """The few figures that tell how it goes."""
    shown = {name: figures[name] for name in (*_SHOWN, *_SHOWN_TOO) if name in figures}
    return ", ".join(f"{name} {value:.4g}" for name, value in (shown or figures).items())


def save(document: Mapping[str, Any], out: Path) -> None:
    """Write the document, whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_suffix(".part")
    draft.write_text(json.dumps(document, indent=1) + "\n")
    os.replace(draft, out)


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vastproxy-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)
