"""One target under atheris, in the process that `python -m fuzz` starts for it: `NAME SECONDS CORPUS`.

Nothing of ours may be imported before atheris watches imports, or it sees no branches.
"""

import importlib
import sys
from pathlib import Path

#: The longest input, and what one may take before that counts as broken.
MAX_BYTES, LIMIT_S, LIMIT_MB = 4_096, 10, 2_048


def main() -> None:
    atheris = importlib.import_module("atheris")
    name, seconds, corpus = sys.argv[1:]
    with atheris.instrument_imports(include=["vastproxy"]):
        targets = importlib.import_module("fuzz.targets")
    limits = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_BYTES}",
        f"-timeout={LIMIT_S}",
        f"-rss_limit_mb={LIMIT_MB}",
        f"-artifact_prefix={Path(corpus).parent}/",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *limits, corpus], targets.TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
