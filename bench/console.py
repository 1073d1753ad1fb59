"""What the bench says while it runs: to standard error, so that standard output stays free for results."""

import sys
import time


def say(text: str) -> None:
    """One line with the time of day."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()
