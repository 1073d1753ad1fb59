"""What it costs to count a request, and to tell Prometheus about a large fleet.

    python -m bench.metrics                    a table, then the same as one line of JSON
    python -m bench.metrics --sizes 1000

A scrape tells every metric of every backend and GPU. Its CPU is that of all slices one after the other; the longest
block is the longest time for which nobody else had a turn while a page was made as `/metrics` makes it.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from bench.figure import Figure, as_json, table
from bench.probed import probed_engine
from bench.scale import SIZES, best_us
from bench.scale_fleet import GPUS, make_healthy, plain_fleet
from vastproxy.services.backends.gpus import Gpu, GpuReading
from vastproxy.services.backends.load import Load
from vastproxy.services.fleet import Fleet
from vastproxy.services.metrics.exposition import Form
from vastproxy.services.metrics.metrics import Metrics
from vastproxy.services.metrics.requests import RequestMetrics
from vastproxy.services.metrics.scrape import Scrape
from vastproxy.services.metrics.usage import usage_of
from vastproxy.services.snapshot import BackendSnapshot, FleetSummary, snapshot_backend

CALLS = 100_000
REPEATS = 5
#: Names that requests are counted by: as many as a scrape tells apart.
MODELS = 64
#: The last two reads of a stream: as vLLM ends it when usage was asked for, and when not.
_PLAIN = b"data: [DONE]\n\n", b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"hello "}}]}\n\n'
_TAIL = (
    b"data: [DONE]\n\n",
    b'data: {"id":"x","object":"chat.completion.chunk","created":1,"model":"m","choices":[],'
    b'"usage":{"prompt_tokens":31,"total_tokens":331,"completion_tokens":300}}\n\n',
)
_READING = GpuReading(
    tuple(
        Gpu(
            number,
            utilization_percent=97.0,
            temperature_c=61.0,
            memory_used_mib=71_204.0,
            memory_total_mib=81_559.0,
            power_w=612.41,
            power_limit_w=700.0,
        )
        for number in range(GPUS)
    )
)


class Watched:
    """A fleet as a scrape looks at it, its backends one by one."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.in_flight = 0
        self.backend_ids = fleet.backend_ids

    def summary(self) -> FleetSummary:
        return self._fleet.summary()

    def each_backend(self) -> Iterator[BackendSnapshot]:
        """Each as it is when its turn comes."""
        roster, now = self._fleet._roster, self._fleet.clock()
        for id in roster.ids:
            keeper = roster[id]
            yield snapshot_backend(keeper.backend, keeper.reach, now)


def measure_counting() -> list[Figure]:
    """One request counted: the least, and with everything that can be known of one."""
    requests = RequestMetrics()

    def least() -> None:
        requests.finished("other", None, 1, 200, None, 1, None, 0.01, 0.01, 0, 500, None, None, 0, False)

    def most() -> None:
        requests.finished("chat", "a-model", 1, 200, None, 1, 0.1, 0.2, 9.0, 900, 90_000, 300, 250, 250, True)

    return [
        Figure("a request counted", 1, best_us(least, times=CALLS), "µs"),
        Figure("a stream counted, with tokens and a wait", 1, best_us(most, times=CALLS), "µs"),
        Figure(
            "tokens read from the end of an answer", 1, best_us(lambda: usage_of(*_TAIL), times=CALLS), "µs"
        ),
        Figure("an end without tokens looked at", 1, best_us(lambda: usage_of(*_PLAIN), times=CALLS), "µs"),
    ]


async def measure_scrape(count: int, port: int) -> list[Figure]:
    """Pages about so many backends, with every name of a model in use."""
    fleet, _, _ = plain_fleet(count, port)
    async with fleet:
        await make_healthy(fleet)
        metrics = Metrics()
        _count_requests(metrics.requests, fleet.backend_ids)
        scrape = Scrape(metrics, Watched(fleet))
        cpu_ms, blocks_ms = [], []
        for _ in range(REPEATS):
            _fill(fleet)  # keepers go on, and see no GPUs
            cpu = time.thread_time()
            page = [text.encode() for text in scrape._text(Form.TEXT)]
            cpu_ms.append((time.thread_time() - cpu) * 1e3)
            _fill(fleet)
            blocks_ms.append(await _longest_block(scrape))
    lines = sum(piece.count(b"\n") for piece in page)
    note = f"{lines} lines, {sum(map(len, page)) / 1e6:.2f} MB, {GPUS} GPUs each, {MODELS} models"
    return [
        Figure("/metrics: CPU", count, min(cpu_ms), "ms", note),
        Figure("/metrics: longest block, best run", count, min(blocks_ms), "ms"),
        Figure("/metrics: longest block, worst run", count, max(blocks_ms), "ms"),
    ]


def _count_requests(requests: RequestMetrics, ids: tuple[int, ...]) -> None:
    for id in ids:
        requests.finished("chat", "model-0", id, 200, None, 1, 0.1, 0.2, 9.0, 9, 9, 300, 250, 250, True)
    for number in range(MODELS):
        name = f"model-{number}"
        requests.finished("chat", name, ids[0], 200, None, 1, 0.1, 0.2, 9.0, 9, 9, 300, 250, 250, True)
        requests.finished(
            "chat", name, ids[0], 502, "backend_error", 2, 0.1, None, 9, 9, 9, None, None, 0, False
        )


def _fill(fleet: Fleet) -> None:
    """All that can be known of every backend."""
    for keeper in fleet._roster:
        keeper.backend.gpus = _READING
        for engine in keeper.backend.engines:
            engine.load = Load(running=3, waiting=0, capacity=256, cache_used=0.4)


async def _longest_block(scrape: Scrape) -> float:
    """ms of the longest time between two turns of somebody else."""
    loop = asyncio.get_running_loop()
    longest, last, ended = 0.0, time.perf_counter(), False

    def turn() -> None:
        nonlocal longest, last
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        if not ended:
            loop.call_soon(turn)

    loop.call_soon(turn)
    await scrape.page(Form.TEXT)
    ended = True
    await asyncio.sleep(0)
    return longest * 1e3


async def measure(sizes: list[int]) -> list[Figure]:
    """All of it."""
    figures = measure_counting()
    with probed_engine() as port:
        for count in sizes:
            figures += await measure_scrape(count, port)
    return figures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="backends (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the JSON here as well")
    arguments = parser.parse_args()
    figures = uvloop.run(measure(arguments.sizes))
    text = json.dumps(as_json("metrics", "backends", figures))
    sys.stdout.write(f"{table(figures)}\n{text}\n")
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
