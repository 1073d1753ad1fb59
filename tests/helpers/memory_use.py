"""How much memory this process takes, while something happens to it."""

import gc
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident_bytes() -> int:
    """What is in memory of this process now (Linux, proc(5))."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


class Growth:
    """The most that this process has grown, at the moments when `look` was called."""

    def __init__(self) -> None:
        gc.collect()
        self._before = resident_bytes()
        self.most_bytes = 0

    def look(self) -> int:
        self.most_bytes = max(self.most_bytes, resident_bytes() - self._before)
        return self.most_bytes
