"""`python -m fuzz [--seconds N] [TARGET …]`: each target in a process of its own, for so long.

What breaks a target is left in `build/fuzz/<target>/`, and repeated with `python -m fuzz --repeat FILE TARGET`.
Without atheris (github.com/google/atheris), which has no wheel for every Python, nothing is fuzzed and that is said;
the same targets are tried with hypothesis by tests/unit/test_fuzz_targets.py.
"""

import argparse
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fuzz.targets import TARGETS

#: Where inputs are kept that reach something new, and those that break a target.
PLACE = Path("build/fuzz")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 when a target broke."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Fuzz what parses bytes.")
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"all, unless named: {', '.join(TARGETS)}"
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument(
        "--repeat", type=Path, metavar="FILE", help="give this file to the one target, and end"
    )
    options = parser.parse_args(arguments)
    names = options.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target is called {', '.join(sorted(unknown))}")
    if options.repeat is not None:
        if len(options.targets) != 1:
            parser.error("--repeat takes one target")
        TARGETS[names[0]].run(options.repeat.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.stdout.write(f"skipped: atheris is not installed, or has no wheel for Python {version}\n")
        return 0
    broken = [name for name in names if not _is_sound(name, options.seconds)]
    sys.stdout.write(
        f"{len(names)} targets, {options.seconds} s each; broken: {', '.join(broken) or 'none'}\n"
    )
    return 1 if broken else 0


def _is_sound(name: str, seconds: int) -> bool:
    corpus = PLACE / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    sys.stdout.write(f"fuzzing {name}\n")
    sys.stdout.flush()
    command = [sys.executable, "-m", "fuzz.inside", name, str(seconds), str(corpus)]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
