"""One rented instance as the account sees it: its row, its keys, its phase. Pure.

vast.ai tells a life in three words (actual, intended, contract state); a `Phase` names the
combinations that occur. Whatever stands behind the contract (a simulated machine, or nothing)
moves it with `enter`.
"""

import copy
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from vastproxy.simulator.payloads import JsonObject


class Verb(StrEnum):
    """What the owner asks of an instance through the API."""

    START = "start"
    STOP = "stop"
    REBOOT = "reboot"
    RECYCLE = "recycle"
    DESTROY = "destroy"


class Machine(Protocol):
    """What stands behind a contract. It acts on its own time and reports by `Contract.enter`."""

    def requested(self, verb: Verb) -> None: ...


class Phase(StrEnum):
    """Where an instance is in its life."""

    PROVISIONING = "provisioning"
    LOADING = "loading"
    RUNNING = "running"
    REBOOTING = "rebooting"
    RECYCLING = "recycling"
    CRASHED = "crashed"
    STOPPED = "stopped"
    OUTBID = "outbid"
    OFFLINE = "offline"


#: phase -> actual_status, intended_status, cur_state, next_state, status_msg
_PHASES: dict[Phase, tuple[str | None, str, str, str, str | None]] = {
    Phase.PROVISIONING: (None, "running", "unloaded", "running", None),
    Phase.LOADING: ("loading", "running", "running", "running", "Pulling fs layer"),
    Phase.RUNNING: ("running", "running", "running", "running", "success, running {image}\n"),
    Phase.REBOOTING: ("rebooting", "running", "running", "running", "rebooting\n"),
    Phase.RECYCLING: ("recycling", "running", "running", "running", "recycling\n"),
    Phase.CRASHED: ("exited", "running", "running", "running", "Error: container exited with code 137\n"),
    Phase.STOPPED: ("exited", "stopped", "stopped", "stopped", "success, stopped\n"),
    Phase.OUTBID: ("exited", "stopped", "stopped", "stopped", "outbid or paused\n"),
    Phase.OFFLINE: ("offline", "running", "running", "running", "success, running {image}\n"),
}

#: Phases in which the container exists, so that the host maps its ports and reports its GPU.
_ALIVE = (Phase.RUNNING, Phase.OFFLINE)


@dataclass(frozen=True, slots=True)
class SshKey:
    """A public key in OpenSSH's one-line form, and the id that the API gives it."""

    id: int
    text: str

    @property
    def material(self) -> tuple[str, ...]:
        """Type and key without the comment: what makes two keys the same."""
        return tuple(self.text.split()[:2])


@dataclass(slots=True)
class Contract:
    """One instance. `row` is what the list shows, except for what depends on the time."""

    row: JsonObject
    engine: str | None = None
    keys: list[SshKey] = field(default_factory=list)
    machine: Machine | None = None
    phase: Phase = Phase.PROVISIONING
    log: deque[str] = field(default_factory=lambda: deque(maxlen=1000))
    rise: JsonObject | None = None
    """The price rise that its host asks for, as the API lists it."""

    @property
    def id(self) -> int:
        return int(self.row["id"])

    @property
    def label(self) -> str | None:
        label: str | None = self.row["label"]
        return label

    @property
    def token(self) -> str:
        return str(self.row["jupyter_token"])

    @property
    def outbid(self) -> bool:
        """Is somebody else paying more than this interruptible instance?"""
        return bool(self.row["is_bid"]) and float(self.row["min_bid"]) > float(self.row["dph_base"])

    def enter(self, phase: Phase, *, ports: JsonObject | None = None) -> None:
        """Be in `phase` from now on. `ports` replaces the port map; outside of life there is none."""
        actual, intended, current, following, message = _PHASES[phase]
        self.phase = phase
        self.row |= {
            "actual_status": actual,
            "intended_status": intended,
            "cur_state": current,
            "next_state": following,
            "status_msg": message and message.format(image=self.row["image_uuid"]),
        }
        if ports is not None or phase not in _ALIVE:
            self.row["ports"] = ports or {}
        costs = self.row["instance"]
        costs["gpuCostPerHour"] = self.row["dph_base"] if phase in _ALIVE else 0
        costs["totalHour"] = costs["discountedTotalPerHour"] = costs["gpuCostPerHour"] + costs["diskHour"]
        if phase not in _ALIVE:
            self.row |= {"gpu_util": None, "gpu_temp": None}

    def view(self, now: float) -> JsonObject:
        """The row as the API would send it at `now` (seconds since the epoch). The caller may change it."""
        row = copy.deepcopy(self.row)
        if row.get("end_date") is not None:
            row["duration"] = max(0.0, row["end_date"] - now)
        return row
