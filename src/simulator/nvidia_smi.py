"""nvidia-smi as a simulated machine has it: the same columns, texts and exit codes (driver 570). Pure."""

import math
import random
from dataclasses import dataclass, field

from vastproxy.simulator.catalog import DRIVER_VERSION, GPUS, Gpu

#: Exit code and text for a column that does not exist.
BAD_FIELD_STATUS = 2
#: Boost clock of current data center GPUs (NVIDIA data sheets); near enough for all.
_MAX_CLOCK_MHZ = 1980


@dataclass(frozen=True, slots=True)
class Output:
    """What a command leaves. `repeat_s`: print again after so many seconds, for ever."""

    stdout: str = ""
    status: int = 0
    stderr: str = ""
    repeat_s: float | None = None


@dataclass(slots=True)
class Gpus:
    """The GPUs of one machine. `load` is the share of the engine's slots in use, 0 to 1."""

    name: str
    count: int
    seed: int
    _kind: Gpu = field(init=False)

    def __post_init__(self) -> None:
        self._kind = GPUS[self.name]

    def run(self, arguments: list[str], *, load: float, now: float) -> Output:
        """What `nvidia-smi` with these arguments prints at `now`."""
        query, form, repeat = None, "", None
        rest = iter(arguments)
        for argument in rest:
            name, _, value = argument.partition("=")
            if name in ("-l", "--loop"):
                repeat = float(value or next(rest, "5"))
            elif name == "--query-gpu":
                query = value
            elif name == "--format":
                form = value
            elif name == "-L":
                return Output(self._list())
            else:
                return Output(f"ERROR: Option {argument} is not recognized. Please run 'nvidia-smi -h'.\n", 1)
        if query is None:
            return Output(self._summary(load, now), repeat_s=repeat)
        if form.split(",")[0] != "csv":
            return Output("\"--format=\" switch is missing. Please run 'nvidia-smi -h' for help.\n", 1)
        return self._csv(query.split(","), form.split(","), load, now, repeat)

    def measure(self, index: int, *, load: float, now: float) -> dict[str, float]:
        """Utilization, memory, temperature and power of one GPU: smooth in time, rising with the load."""
        rng = random.Random(f"{self.seed}/{index}")
        wave = 0.5 + 0.5 * math.sin(now / 7 + rng.random() * 6)
        busy = min(1.0, load * 4) if load else 0.0
        use = min(99.0, 2 + 3 * wave + busy * (78 + 14 * wave))
        return {
            "utilization.gpu": round(use),
            "utilization.memory": round(use * 0.55),
            "memory.used": round(self._kind.memory_mib * (0.84 + 0.01 * wave)),
            "temperature.gpu": round(38 + 0.3 * use + 3 * wave),
            "power.draw": round(self._kind.power_w * (0.09 + 0.0075 * use) + 4 * wave, 2),
        }

    def _cells(self, index: int, load: float, now: float) -> dict[str, tuple[str, str]]:
        kind, seen = self._kind, self.measure(index, load=load, now=now)
        data_center = kind.name.startswith(("H100", "A100"))
        clock = str(round(_MAX_CLOCK_MHZ * (0.3 + 0.65 * seen["utilization.gpu"] / 100)))
        capped = seen["power.draw"] > 0.8 * kind.power_w
        return {
            "index": (str(index), ""),
            "uuid": (self._uuid(index), ""),
            "name": (kind.smi_name, ""),
            "count": (str(self.count), ""),
            "driver_version": (DRIVER_VERSION, ""),
            "utilization.gpu": (str(seen["utilization.gpu"]), " %"),
            "utilization.memory": (str(seen["utilization.memory"]), " %"),
            "memory.used": (str(seen["memory.used"]), " MiB"),
            "memory.free": (str(round(kind.memory_mib - seen["memory.used"])), " MiB"),
            "memory.total": (str(kind.memory_mib), " MiB"),
            "temperature.gpu": (str(seen["temperature.gpu"]), ""),
            "power.draw": (f"{seen['power.draw']:.2f}", " W"),
            "power.limit": (f"{kind.power_w:.2f}", " W"),
            "fan.speed": ("[N/A]" if data_center else "42", "" if data_center else " %"),
            "temperature.memory": (str(seen["temperature.gpu"] + 8) if data_center else "[N/A]", ""),
            "clocks.current.graphics": (clock, " MHz"),
            "clocks.current.sm": (clock, " MHz"),
            "clocks.max.sm": (str(_MAX_CLOCK_MHZ), " MHz"),
            "clocks.current.memory": ("2619" if data_center else "10501", " MHz"),
            "clocks_event_reasons.active": (f"0x{4 if capped else 0 if load else 1:016X}", ""),
            "ecc.mode.current": ("Enabled" if data_center else "[N/A]", ""),
            "ecc.errors.corrected.volatile.total": ("0" if data_center else "[N/A]", ""),
            "ecc.errors.uncorrected.volatile.total": ("0" if data_center else "[N/A]", ""),
            "retired_pages.pending": ("[N/A]", ""),
            "reset_status.reset_required": ("No" if data_center else "[N/A]", ""),
            "pcie.link.gen.current": ("4" if load else "1", ""),
            "pcie.link.gen.max": ("4", ""),
            "pcie.link.width.current": ("16", ""),
            "pcie.link.width.max": ("16", ""),
            "persistence_mode": ("Enabled", ""),
            "pstate": ("P0" if data_center else "P2", ""),
            "mig.mode.current": ("Disabled" if data_center else "[N/A]", ""),
        }

    def _csv(
        self, names: list[str], form: list[str], load: float, now: float, repeat: float | None
    ) -> Output:
        names = [name.strip() for name in names]
        known = self._cells(0, load, now)
        for name in names:
            if name not in known:
                return Output(f'Field "{name}" is not a valid field to query.\n\n', BAD_FIELD_STATUS)
        units = "nounits" not in form
        lines = [] if "noheader" in form else [", ".join(names)]
        for index in range(self.count):
            cells = self._cells(index, load, now)
            lines.append(", ".join(cells[name][0] + (cells[name][1] if units else "") for name in names))
        return Output("\n".join(lines) + "\n", repeat_s=repeat)

    def _list(self) -> str:
        return "".join(f"GPU {i}: {self._kind.smi_name} (UUID: {self._uuid(i)})\n" for i in range(self.count))

    def _summary(self, load: float, now: float) -> str:
        lines = [f"NVIDIA-SMI {DRIVER_VERSION}   Driver Version: {DRIVER_VERSION}   CUDA Version: 12.8"]
        for index in range(self.count):
            seen = self.measure(index, load=load, now=now)
            memory = f"{seen['memory.used']}MiB / {self._kind.memory_mib}MiB"
            power = f"{seen['power.draw']:.0f}W / {self._kind.power_w:.0f}W"
            use = f"{seen['temperature.gpu']}C  {power}  {memory}  {seen['utilization.gpu']}%"
            lines.append(f"|  {index}  {self._kind.smi_name}  {use} |")
        return "\n".join(lines) + "\n"

    def _uuid(self, index: int) -> str:
        digits = f"{random.Random(f'uuid/{self.seed}/{index}').getrandbits(128):032x}"
        return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
