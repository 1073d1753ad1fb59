"""What the simulated account refuses, and what a simulation cannot do.

SimulatorError
  Refusal            the simulated vast.ai API answers a call with an error
"""

from typing import Any

from vastproxy.errors import VastproxyError


class SimulatorError(VastproxyError):
    """A simulation was asked for something that it cannot do."""


class Refusal(SimulatorError):
    """One error answer of the API: an HTTP status and the JSON body (shapes: vast.ai API docs, 2026-08)."""

    def __init__(self, http_status: int, error: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.body: dict[str, Any] = {"success": False, "error": error, "msg": message, **more}


def no_such_instance(instance_id: int) -> Refusal:
    return Refusal(404, "no_such_instance", f"Instance {instance_id} not found.")


def invalid_args(message: str = "error 400/3600: invalid_args") -> Refusal:
    return Refusal(400, "invalid_args", message)
