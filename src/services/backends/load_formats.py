"""How each kind of engine says how busy it is. Pure: an answer in, a `Load` out, None when it is no such answer.

Sources, 2026-08:

1. SGLang 0.5.18: `entrypoints/v1_loads.py`, `managers/io_struct.py` (GetLoadReqOutput, GetLoadsReqOutput),
   `observability/metrics_collector.py`. One row for each data-parallel rank; the limit in it is that of the rank. The
   metrics (`--enable-metrics`) come once for each tensor-parallel rank that is told to write them, all the same, and
   with priority scheduling also by priority: the total has the label `priority=""`.
2. vLLM 0.6 to 0.11: `engine/metrics.py`, `v1/metrics/loggers.py`. One series for each engine core. The cache was
   `gpu_cache_usage_perc` until 0.9, and `num_requests_swapped` went with the old engine. The longest batch
   (`max_num_seqs`) is not told.
3. llama.cpp b6900 and later: `tools/server/README.md`. Without `--metrics`, or with `--no-slots`, the path answers 501;
   with several models it wants `?model=` and answers 400. Before 2024-12 a slot had `state` 0 or 1.
4. Ollama 0.12: `server/routes.go` (PsHandler) tells which models are in memory, and nothing of requests.
5. text-generation-inference 3.3: `backends/v3/src/queue.rs`, `router/src/infer/mod.rs`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vastproxy.services.backends.engine_kinds import read_models
from vastproxy.services.backends.fetch import ProbeResponse
from vastproxy.services.backends.load_metrics import Sample, read_samples
from vastproxy.vastai.parsing import as_float, as_int, as_rows

#: Rows of an answer that are looked at: data-parallel ranks, slots.
MAX_ROWS = 4_096
#: No engine has so many requests; a larger number is no count.
MAX_COUNT = 10_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """How busy an engine is. What it does not tell is None."""

    running: int | None = None
    """Requests that it is generating for."""
    waiting: int | None = None
    """Requests that it has accepted and not begun."""
    capacity: int | None = None
    """Requests that it takes on at the same time; more wait, or are refused."""
    cache_used: float | None = None
    """Share of its KV cache that is in use, 0 to 1: of the fullest, if it has several."""
    loaded: tuple[str, ...] | None = None
    """Models that are in memory, where others can be asked for too (Ollama)."""
    at: float = 0.0
    """When the answer came, in seconds of the reader's clock."""

    @property
    def in_flight(self) -> int | None:
        """Requests that it has, running or waiting; None when it does not tell which run."""
        return None if self.running is None else self.running + (self.waiting or 0)


#: Reads an answer that came at this time.
ReadLoad = Callable[[ProbeResponse, float], Load | None]


def sglang_loads(answer: ProbeResponse, at: float) -> Load | None:
    """`/v1/loads`."""
    rows = _rows(answer.json_object().get("loads")) if answer.status == 200 else ()
    running, waiting = _sum(rows, "num_running_reqs"), _sum(rows, "num_waiting_reqs")
    if running is None and waiting is None:
        return None
    capacity = _sum(rows, "max_running_requests")
    cache = _most(_share(row.get("token_usage")) for row in rows)
    return Load(running, waiting, capacity or None, cache, at=at)


def sglang_get_load(answer: ProbeResponse, at: float) -> Load | None:
    """`/get_load`, whose `num_reqs` counts the waiting ones too."""
    rows = _rows(answer.json()) if answer.status == 200 else ()
    total, waiting = _sum(rows, "num_reqs"), _sum(rows, "num_waiting_reqs")
    if total is None:
        return None
    return Load(max(0, total - (waiting or 0)), waiting, at=at)


def sglang_metrics(answer: ProbeResponse, at: float) -> Load | None:
    """`/metrics`: the same number for every tensor-parallel rank of a data-parallel one."""
    seen = _Metrics(answer, "sglang", ("num_running_reqs", "num_queue_reqs", "token_usage"))
    running, waiting = seen.by_rank("num_running_reqs"), seen.by_rank("num_queue_reqs")
    if running is None and waiting is None:
        return None
    return Load(running, waiting, cache_used=seen.fullest("token_usage"), at=at)


def vllm_metrics(answer: ProbeResponse, at: float) -> Load | None:
    """`/metrics`, by old names and new."""
    names = ("num_requests_running", "num_requests_waiting", "num_requests_swapped")
    caches = ("kv_cache_usage_perc", "gpu_cache_usage_perc")
    seen = _Metrics(answer, "vllm", names + caches)
    running, waiting, swapped = (seen.sum(name) for name in names)
    if running is None and waiting is None:
        return None
    waits = None if waiting is None else waiting + (swapped or 0)
    cache = next((used for name in caches if (used := seen.fullest(name)) is not None), None)
    return Load(running, waits, cache_used=cache, at=at)


def llamacpp_slots(answer: ProbeResponse, at: float) -> Load | None:
    """`/slots`. It does not tell how many requests wait for one."""
    slots = _rows(answer.json()) if answer.status == 200 else ()
    busy = [_is_busy(slot) for slot in slots]
    if not slots or None in busy:
        return None
    return Load(sum(map(bool, busy)), None, len(slots), at=at)


def llamacpp_metrics(answer: ProbeResponse, at: float) -> Load | None:
    """`/metrics`. The cache's usage went in 2025."""
    seen = _Metrics(answer, "llamacpp", ("requests_processing", "requests_deferred", "kv_cache_usage_ratio"))
    running, waiting = seen.sum("requests_processing"), seen.sum("requests_deferred")
    if running is None and waiting is None:
        return None
    return Load(running, waiting, cache_used=seen.fullest("kv_cache_usage_ratio"), at=at)


def ollama_ps(answer: ProbeResponse, at: float) -> Load | None:
    """`/api/ps`."""
    if not isinstance(answer.json_object().get("models"), list):
        return None
    loaded = read_models(answer)
    return None if loaded is None else Load(loaded=loaded, at=at)


def tgi_metrics(answer: ProbeResponse, at: float) -> Load | None:
    """`/metrics`. Its gauges appear with the first request, so one without them has had none."""
    seen = _Metrics(answer, "tgi", ("batch_current_size", "queue_size"))
    running, waiting = seen.sum("batch_current_size"), seen.sum("queue_size")
    if running is None and waiting is None:
        unused = answer.status == 200 and answer.body.lstrip().startswith(
            (b"# HELP tgi_", b"# TYPE tgi_", b"tgi_")
        )
        return Load(0, 0, at=at) if unused else None
    return Load(running, waiting, at=at)


def sglang_capacity(answer: ProbeResponse) -> int | None:
    """`/get_server_info`. It also holds the engine's API key, so nothing else of it is kept."""
    states = _rows(answer.json_object().get("internal_states")) if answer.status == 200 else ()
    return _sum(states, "effective_max_running_requests_per_dp") or None


def llamacpp_capacity(answer: ProbeResponse) -> int | None:
    """`/props`."""
    return _count(answer.json_object().get("total_slots")) or None if answer.status == 200 else None


def tgi_capacity(answer: ProbeResponse) -> int | None:
    """`/info`: requests beyond this many are answered 429."""
    return (
        _count(answer.json_object().get("max_concurrent_requests")) or None if answer.status == 200 else None
    )


class _Metrics:
    """The wanted samples of one answer, by the names without the engine's prefix."""

    def __init__(self, answer: ProbeResponse, prefix: str, names: Sequence[str]) -> None:
        # A collector between us and the engine writes `vllm_…` for `vllm:…`, as the format's authors would.
        full = {f"{prefix}{mark}{name}": name for name in names for mark in ":_"}
        samples = read_samples(answer.body, full) if answer.status == 200 else ()
        self._samples: dict[str, list[Sample]] = {}
        for sample in samples:
            self._samples.setdefault(full[sample.name], []).append(sample)

    def sum(self, name: str) -> int | None:
        """Over all series."""
        return _total(_count(sample.value) for sample in self._samples.get(name, ()))

    def by_rank(self, name: str) -> int | None:
        """Over the data-parallel ranks. Of a rank the highest series counts: the others repeat it, or are parts of it
        (by priority)."""
        ranks: dict[str, int] = {}
        for sample in self._samples.get(name, ()):
            if (count := _count(sample.value)) is not None:
                rank = sample.labels.get("dp_rank", "")
                ranks[rank] = max(count, ranks.get(rank, 0))
        return _total(ranks.values())

    def fullest(self, name: str) -> float | None:
        return _most(_share(sample.value) for sample in self._samples.get(name, ()))


def _rows(value: object) -> Sequence[Mapping[str, Any]]:
    return as_rows(value[:MAX_ROWS]) if isinstance(value, list) else ()


def _is_busy(slot: Mapping[str, Any]) -> bool | None:
    processing = slot.get("is_processing")
    if isinstance(processing, bool):
        return processing
    state = as_int(slot.get("state"))
    return None if state is None else state != 0


def _count(value: object) -> int | None:
    """A number of requests. Gauges are written as floats."""
    number = as_float(value)
    return round(number) if number is not None and 0 <= number <= MAX_COUNT else None


def _share(value: object) -> float | None:
    number = as_float(value)
    return min(number, 1.0) if number is not None and 0 <= number <= 1.01 else None


def _sum(rows: Iterable[Mapping[str, Any]], key: str) -> int | None:
    return _total(_count(row.get(key)) for row in rows)


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _most(shares: Iterable[float | None]) -> float | None:
    return max((share for share in shares if share is not None), default=None)
