"""Which fields nvidia-smi is asked for, and what to ask when a driver does not know one. Pure.

Facts: `nvidia-smi --help-query-gpu` of drivers 470 to 580. A name it does not know makes it refuse the
whole query with status 2 and `Field "x" is not a valid field to query.`, and names only the first one.
"""

import re
from dataclasses import dataclass
from typing import Final

#: How long nvidia-smi may take. It hangs on a sick GPU; `timeout` ends it inside the instance, with status 124.
QUERY_LIMIT_S: Final = 10.0

#: The first ones are those of which samples were collected, in their order.
SAMPLED_FIELDS: Final = (
    *("index", "uuid", "name", "driver_version", "utilization.gpu", "utilization.memory"),
    *("memory.used", "memory.total", "temperature.gpu", "power.draw", "power.limit", "pstate"),
    "mig.mode.current",
)
FULL_FIELDS: Final = (
    *SAMPLED_FIELDS,
    *("memory.free", "temperature.memory", "fan.speed"),
    *("clocks.current.graphics", "clocks.current.sm", "clocks.max.sm", "clocks.current.memory"),
    # One mask for all reasons: the names of the single reasons changed more than once.
    "clocks_event_reasons.active",
    *("ecc.mode.current", "ecc.errors.corrected.volatile.total", "ecc.errors.uncorrected.volatile.total"),
    *("retired_pages.pending", "reset_status.reset_required"),
    *("pcie.link.gen.current", "pcie.link.gen.max", "pcie.link.width.current", "pcie.link.width.max"),
    "persistence_mode",
)
#: Known to every driver since 2013.
MINIMAL_FIELDS: Final = (
    *("index", "name", "utilization.gpu", "memory.used", "memory.total", "temperature.gpu"),
)

#: Another name of the same field, for a driver that does not know the first. Driver 535 brought
#: `clocks_event_reasons`; newer ones call the PCIe generation `gpucurrent` and the old name deprecated.
OTHER_NAMES: Final = {
    "clocks_event_reasons.active": "clocks_throttle_reasons.active",
    "pcie.link.gen.current": "pcie.link.gen.gpucurrent",
}
#: After so many refusals only the fields of the samples are asked for, each refusal costing a run, and after some
#: more only the minimum.
MOST_REFUSALS: Final = 8
LAST_REFUSALS: Final = 12

_REFUSAL = re.compile(r'Field "([\w.]{1,80})" is not a valid field')
REFUSAL_PART: Final = "is not a valid field"


@dataclass(frozen=True, slots=True)
class GpuQuery:
    """A query of nvidia-smi. `refusals`: how many queries before it were refused."""

    fields: tuple[str, ...] = FULL_FIELDS
    refusals: int = 0

    def command(self, limit_s: float = QUERY_LIMIT_S) -> str:
        """One run, which ends in its own time."""
        # The locale would decide how numbers and complaints are written.
        return (
            f"timeout {limit_s:g} env LC_ALL=C nvidia-smi "
            f"--query-gpu={','.join(self.fields)} --format=csv,noheader,nounits"
        )


def next_query(previous: GpuQuery, output: str) -> GpuQuery | None:
    """What to ask after `output`. None: it was no refusal, or there is nothing left that could be left out."""
    if REFUSAL_PART not in output:
        return None
    if previous.fields == MINIMAL_FIELDS:
        return None
    refusals = previous.refusals + 1
    refused = set(_REFUSAL.findall(output)) & set(previous.fields)
    fields = tuple(filter(None, (_instead(field, refused) for field in previous.fields)))
    if refusals >= LAST_REFUSALS or not refused or "index" not in fields:
        fields = MINIMAL_FIELDS
    elif refusals == MOST_REFUSALS:
        fields = tuple(field for field in SAMPLED_FIELDS if field in fields)
    return GpuQuery(fields, refusals)


def _instead(field: str, refused: set[str]) -> str | None:
    return field if field not in refused else OTHER_NAMES.get(field)
