"""An example of the last requests of the fleet in `dashboard_scene`, as `/vastproxy/v1/requests` tells them."""

import random
from typing import Any

from tests.helpers.dashboard_scene import FIRST_ID, MODELS


def attempt(instance: int, began: float, *, ended: float | None, outcome: str, **more: Any) -> dict[str, Any]:
    """One attempt of a request, times in ms since that began."""
    others = [FIRST_ID + place * 977 for place in range(5)]
    return {
        "instance": instance,
        "port": 18_000,
        "path": "direct",
        "reused": False,
        "reason": "lowest score",
        "candidates": [
            {"instance": one, "port": 18_000, "score": round(0.31 + abs(one - instance) / 4000, 3)}
            for one in others
        ],
        "candidates_total": 5,
        "started_ms": began,
        "connected_ms": began + 22.4,
        "first_byte_ms": began + 171.2 if outcome != "failed" else None,
        "ended_ms": ended,
        "outcome": outcome or None,
        "error": None,
    } | more


def requests(*, now: float, count: int = 60, seed: int = 5) -> list[dict[str, Any]]:
    """The last requests, the newest first: some run, one waits, one was retried, one failed."""
    rng, found = random.Random(seed), []
    for place in range(count):
        total = rng.uniform(900, 9000)
        instance = FIRST_ID + rng.choice((0, 1, 2, 4, 5)) * 977
        tries = [attempt(instance, 3.1, ended=total, outcome="answered", reason="kept with its conversation")]
        state: str = "done"
        status: int | None = 200
        if place < 5:
            state, status, tries[0]["ended_ms"], tries[0]["outcome"] = "running", None, None, None
        elif place == 5:
            state, status, tries = "waiting", None, []
        elif place == 8:
            broken = FIRST_ID + 3 * 977
            lost = attempt(broken, 340.0, ended=412.0, outcome="failed", error="connection refused")
            total += 1500
            tries = [lost, attempt(instance, 884.0, ended=total, outcome="answered", reason="retry")]
        elif place == 11:
            status = 503
            tries = [attempt(FIRST_ID + 3 * 977, 2.0, ended=total, outcome="failed", error="broke off")]
        found.append(
            {
                "id": f"{rng.getrandbits(64):016x}",
                "state": state,
                "began_unix": now - place * 1.7 - 1,
                "method": "POST",
                "path": "/v1/chat/completions",
                "model": MODELS[place % 3],
                "stream": True,
                "key": ("web", "nightly", "notebook")[place % 3],
                "priority": "interactive",
                "pin": "session" if place % 2 else None,
                "status": status,
                "queue_ms": 812.0 if place in (5, 8) else 0.0,
                "first_byte_ms": tries[-1]["first_byte_ms"] if tries else None,
                "total_ms": round(total, 1),
                "received_bytes": rng.randrange(400, 9000),
                "sent_bytes": rng.randrange(4000, 90_000),
                "attempts": tries,
                "attempts_left_out": 0,
            }
        )
    return found
