"""What backends read like in a scrape. Pure.

The format wants all samples of a metric together, and the fleet is gone through once, backend by backend: so each
metric has a column, and the columns are written one after the other at the end. A backend with 8 GPUs is 75 lines.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from vastproxy.services.backends.gpus import Gpu
from vastproxy.services.metrics import families, left_families
from vastproxy.services.metrics.exposition import Family, Form, quoted
from vastproxy.services.snapshot import BackendSnapshot, EngineSnapshot, PathSnapshot

_MIB: Final = 1024 * 1024
#: Lines that are put together at once: 2,000 of them are 150 KB.
_LINES: Final = 2_000
#: The words in capitals with which a connection is refused for its host key (services.tunnels.hostcheck).
_HOST_KEY: Final = "HOST KEY "
#: Names of the families that have a line for each GPU.
_UTILIZATION, _TEMPERATURE, _MEMORY_USED, _MEMORY_TOTAL, _POWER, _POWER_LIMIT = (
    family.name for family in families.GPU_FAMILIES[:-1]
)


class Columns:
    """Gathers the lines of backends. `add` each of them, then write `text`."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {
            family.name: [] for family in (*families.BACKEND_FAMILIES, *families.GPU_FAMILIES)
        }
        self._gpus = tuple(self._lines[family.name] for family in families.GPU_FAMILIES[:-1])

    def add(self, backend: BackendSnapshot) -> None:
        """One more backend."""
        id = f'instance_id="{backend.id}"'
        put = self._put
        put(families.UP, id, 1 if backend.state == "healthy" else 0)
        put(families.STATE, f'{id},state="{backend.state}"', 1)
        put(families.STATE_SINCE, id, backend.since_s)
        what = f'gpu_name="{quoted(backend.gpu_name)}",gpus="{backend.num_gpus}"'
        put(families.INFO, f'{id},{what},engine="{backend.engine or ""}",path="{backend.path or ""}"', 1)
        put(families.BACKEND_IN_FLIGHT, id, backend.in_flight)
        put(families.BACKEND_REQUESTS, id, backend.requests)
        put(families.BACKEND_FAILURES, id, backend.failures)
        put(left_families.COST, id, backend.hourly_cost)
        if (left := backend.time_left) is not None:
            put(left_families.CONTRACT_LEFT, id, left.contract_s)
            put(left_families.OUTBID_RISK, id, 1 if left.outbid_risk == "high" else None)
            if left.price_rise is not None:
                put(left_families.PRICE_RISE, id, left.price_rise.to_json(left.gpus)["new_dollars_per_hour"])
        for path in backend.paths:
            self._add_path(path, id)
        for engine in backend.engines:
            self._add_engine(engine, id)
        for gpu in backend.gpus:
            self._add_gpu(gpu, backend.id)
        for labels in dict.fromkeys(_sign_labels(sign) for sign in backend.gpu_signs):
            put(families.GPU_SIGNS, id + labels, 1)  # two Xid events are one sign here

    def text(self, form: Form) -> Iterator[str]:
        """All of it, in pieces of little work."""
        for family in (*families.BACKEND_FAMILIES, *families.GPU_FAMILIES):
            yield from joined(family, form, self._lines[family.name])

    def _put(self, family: Family, labels: str, value: float | None) -> None:
        if value is not None:
            self._lines[family.name].append(f"{family.name}{{{labels}}} {value}\n")

    def _add_path(self, path: PathSnapshot, id: str) -> None:
        labels = f'{id},path="{path.path}"'
        self._put(families.TUNNEL_UP, labels, 1 if path.state == "up" else 0)
        self._put(families.TUNNEL_CONNECTIONS, labels, path.connections)
        self._put(families.TUNNEL_STREAMS, labels, path.streams)
        if is_host_key_refused(path.error):
            self._put(families.HOST_KEY, labels, 1)

    def _add_engine(self, engine: EngineSnapshot, id: str) -> None:
        labels = f'{id},port="{engine.port}",engine="{engine.kind}"'
        put = self._put
        put(families.ENGINE_UP, labels, 1 if engine.healthy else 0)
        put(families.ENGINE_IN_FLIGHT, labels, engine.in_flight)
        put(families.ENGINE_RUNNING, labels, engine.running)
        put(families.ENGINE_WAITING, labels, engine.waiting)
        put(families.ENGINE_CAPACITY, labels, engine.capacity)
        put(families.ENGINE_CACHE, labels, engine.cache_used)

    def _add_gpu(self, gpu: Gpu, id: int) -> None:
        """Most lines of a scrape are made here, so nothing is called that can be written down."""
        labels = f'{{instance_id="{id}",gpu="{gpu.index}"}}'
        utilization, temperature, used, total, power, limit = self._gpus
        if (value := gpu.utilization_percent) is not None:
            utilization.append(f"{_UTILIZATION}{labels} {value / 100:g}\n")
        if (value := gpu.temperature_c) is not None:
            temperature.append(f"{_TEMPERATURE}{labels} {value:g}\n")
        if (value := gpu.memory_used_mib) is not None:
            used.append(f"{_MEMORY_USED}{labels} {int(value * _MIB)}\n")
        if (value := gpu.memory_total_mib) is not None:
            total.append(f"{_MEMORY_TOTAL}{labels} {int(value * _MIB)}\n")
        if (value := gpu.power_w) is not None:
            power.append(f"{_POWER}{labels} {value:g}\n")
        if (value := gpu.power_limit_w) is not None:
            limit.append(f"{_POWER_LIMIT}{labels} {value:g}\n")


def _sign_labels(sign: Mapping[str, Any]) -> str:
    gpu = "" if sign["gpu"] is None else f',gpu="{sign["gpu"]}"'
    return f'{gpu},sign="{sign["sign"]}",fault="{"yes" if sign["fault"] else "no"}"'


def joined(family: Family, form: Form, lines: list[str]) -> Iterator[str]:
    """A family with all these lines, in pieces; nothing at all where there are none."""
    for start in range(0, len(lines), _LINES):
        text = "".join(lines[start : start + _LINES])
        yield text if start else family.head(form) + text


def is_host_key_refused(error: str | None) -> bool:
    """Does a path's error say that its host key is not one that we accept?"""
    return error is not None and _HOST_KEY in error
