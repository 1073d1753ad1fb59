"""What an instance is doing, judged from the three states that vast.ai keeps of it. Pure.

`actual_status` is what the host last said of the container, `intended_status` what its owner wants,
`cur_state` and `next_state` what the contract is at. None of them suffices alone: a container that has
exited was stopped, has crashed, was outbid or waits for a GPU, depending on the others.
Facts: vast.ai documentation (`show instance`, instance types) and answers seen, 2026-08.
"""

from enum import StrEnum


class Phase(StrEnum):
    PROVISIONING = "provisioning"
    """The host has not been heard of yet, or has only made the container."""
    LOADING = "loading"
    """The image is being pulled or the container is starting; minutes are normal."""
    RUNNING = "running"
    """The container is up. sshd and engine may come later."""
    STOPPING = "stopping"
    """Up, but its owner wants it otherwise."""
    STOPPED = "stopped"
    """Stopped by its owner or for lack of credit, or abandoned before it ran."""
    OUTBID = "outbid"
    """An interruptible instance that somebody pays more for; it comes back by itself."""
    QUEUED = "queued"
    """Wanted, and waiting for a free GPU on its machine."""
    RESTARTING = "restarting"
    """Rebooting or being recreated."""
    CRASHED = "crashed"
    """The container has ended although it is wanted."""
    FROZEN = "frozen"
    """Paused with its memory kept."""
    OFFLINE = "offline"
    """The host is not connected to vast.ai."""
    DESTROYED = "destroyed"
    """Gone."""
    UNKNOWN = "unknown"
    """No recent word from the host, or a state that is not documented."""


_PLAIN = {
    "offline": Phase.OFFLINE,
    "unknown": Phase.UNKNOWN,
    "frozen": Phase.FROZEN,
    "rebooting": Phase.RESTARTING,
    "recycling": Phase.RESTARTING,
    "restarting": Phase.RESTARTING,
    "destroyed": Phase.DESTROYED,
    "terminated": Phase.DESTROYED,
    "scheduling": Phase.QUEUED,
}
_ON_THE_WAY = {"": Phase.PROVISIONING, "created": Phase.PROVISIONING, "loading": Phase.LOADING}


def phase_of(
    *, actual: str | None, intended: str | None, current: str | None, following: str | None, outbid: bool
) -> Phase:
    """The phase for `actual_status`, `intended_status`, `cur_state` and `next_state`.

    `outbid` says that the instance is interruptible and others bid more than it pays.
    """
    actual = (actual or "").lower()
    if actual in _PLAIN:
        return _PLAIN[actual]
    stopped_by_will = intended in ("stopped", "frozen")
    if actual == "running":
        return Phase.STOPPING if stopped_by_will else Phase.RUNNING
    if actual not in _ON_THE_WAY and actual not in ("exited", "stopped", "error"):
        return Phase.UNKNOWN
    if outbid and (actual not in _ON_THE_WAY or stopped_by_will):
        return Phase.OUTBID
    if stopped_by_will:
        return Phase.STOPPED
    if current == "stopped":
        return Phase.QUEUED if following == "running" else Phase.STOPPED
    if actual in _ON_THE_WAY:
        return _ON_THE_WAY[actual]
    return Phase.QUEUED if actual == "stopped" else Phase.CRASHED
