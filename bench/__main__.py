"""The command line of the bench: `python -m bench run`, `python -m bench report FILE`."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from bench.console import say
from bench.contenders.all import CONTENDERS
from bench.figures import Results
from bench.machine import require_cores
from bench.measure import Durations
from bench.processes import BenchError
from bench.report import write_report
from bench.run import run_all
from bench.tables import targets_table
from bench.works import WORKS

_ROOT = Path(__file__).resolve().parents[1]
_ABOUT = """\
Measures vastproxy side by side with other proxies: the contender alone on core 1, engines, sshd and load on core 0.

  python -m bench run --quick              a few minutes, to see that everything works
  python -m bench run                      about an hour, for figures that count (on an idle machine)
  python -m bench report bench/results/FILE.json     tables, plots and verdicts into docs/
"""


def _names(kind: str, known: Sequence[str], text: str | None) -> list[str]:
    if text is None:
        return list(known)
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in chosen if name not in known]:
        raise BenchError(f"there is no {kind} {unknown[0]!r}; there are {', '.join(known)}")
    return [name for name in known if name in chosen]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=_ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    described = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    run = verbs.add_parser(
        "run",
        help="measure",
        epilog="works:\n"
        + "\n".join(f"  {work.name:<14} {work.title}" for work in WORKS.values())
        + "\n\ncontenders:\n"
        + "\n".join(f"  {one.name:<18} {one.title}" for one in CONTENDERS.values()),
        **described,  # type: ignore[arg-type]
    )
    run.add_argument(
        "--quick", action="store_true", help="one round of 3 s: shows that it works, proves nothing"
    )
    run.add_argument("--only", metavar="WORK,…", help="these works (default: all)")
    run.add_argument("--contender", metavar="NAME,…", help="these contenders (default: all)")
    run.add_argument("--rounds", type=int, help="times that the contenders take turns (default: 3; quick: 1)")
    run.add_argument("--seconds", type=float, help="length of each measurement (default: 8; quick: 3)")
    run.add_argument("--out", type=Path, help="where the JSON goes (default: bench/results/<time>.json)")
    report = verbs.add_parser("report", help="write tables, plots and verdicts from a run's JSON")
    report.add_argument("file", type=Path, help="what `run` has written")
    report.add_argument("--docs", type=Path, default=_ROOT / "docs", help="the folder (default: docs)")
    return parser


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0, 1 for an error, 130 when interrupted."""
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if arguments.verb == "run":
            return _run(arguments)
        for path in write_report(arguments.file, arguments.docs):
            say(f"wrote {path}")
        return 0
    except BenchError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; all that was started has ended")
        return 130


def _run(arguments: argparse.Namespace) -> int:
    works = _names("work", list(WORKS), arguments.only)
    contenders = _names("contender", list(CONTENDERS), arguments.contender)
    require_cores(os.sched_getaffinity(0))
    durations = Durations(1.0, 3.0) if arguments.quick else Durations()
    if arguments.seconds:
        durations = Durations(durations.warm_up_s, arguments.seconds)
    out = arguments.out or _ROOT / "bench" / "results" / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    document = run_all(works, contenders, rounds=rounds, durations=durations, out=out)
    failed = sum("error" in sample for sample in document["samples"])
    say(f"{len(document['samples'])} samples, {failed} failed: {out}")
    sys.stdout.write(targets_table(Results(document)) + "\n")
    say(f"now: {sys.executable} -m bench report {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
