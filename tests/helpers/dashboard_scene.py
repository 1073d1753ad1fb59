"""An example of what the endpoints behind the dashboard tell: a busy fleet, its last hour, its requests and events."""

import math
import random
from typing import Any

GPUS = (
    ("RTX 4090", 24_564, 450),
    ("H100 SXM", 81_559, 700),
    ("RTX 3090", 24_576, 350),
    ("L40S", 46_068, 350),
)
PLACES = ("Sweden, SE", "California, US", "Quebec, CA", "Bulgaria, BG", "Texas, US", "Norway, NO")
MODELS = ("Qwen/Qwen3-8B", "meta-llama/Llama-3.3-70B-Instruct", "mistralai/Mistral-Small-24B")
ENGINES = ("sglang", "vllm", "llama.cpp")
#: What a hostile instance would call itself.
HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>window.owned=1</script>"
FIRST_ID = 28_410_311


def gpu(rng: random.Random, index: int, name: str, memory: int, watts: int, busy: float) -> dict[str, Any]:
    """One GPU, as `Gpu.to_json` tells it."""
    used = min(max(busy + rng.uniform(-0.08, 0.08), 0.0), 1.0)
    return {
        "index": index,
        "name": name,
        "utilization_percent": round(used * 100),
        "memory_used_mib": round(memory * (0.62 + used * 0.3)),
        "memory_total_mib": memory,
        "temperature_c": round(41 + used * 37 + rng.uniform(0, 4)),
        "power_w": round(watts * (0.2 + used * 0.72)),
        "power_limit_w": watts,
        "fan_percent": round(30 + used * 45),
        "sm_clock_mhz": 2520,
        "throttle": [],
        "lost": False,
        "needs_reset": None,
    }


def backend(rng: random.Random, place: int, now: float) -> dict[str, Any]:
    """One backend that serves."""
    name, memory, watts = GPUS[place % len(GPUS)]
    number, busy = (1, 2, 4, 8)[place * 7 % 4], rng.uniform(0.55, 0.93)
    path = "relay" if place % 5 == 2 else "direct"
    model, kind = MODELS[place % 3], ENGINES[place % 3]
    left = 3600.0 * (9 + place * 31)
    in_flight = rng.randrange(3, 18)
    return {
        "id": FIRST_ID + place * 977,
        "state": "healthy",
        "since_s": round(1200 + place * 913.5, 1),
        "path": path,
        "address": f"203.0.113.{place % 250 + 1}:{40_000 + place}",
        "paths": [
            {
                "path": each,
                "state": "up" if each == path or place % 2 else "dialing",
                "address": f"203.0.113.{place % 250 + 1}:{40_000 + place}",
                "connections": 2 if each == path else 1,
                "streams": in_flight if each == path else 0,
                "error": None,
            }
            for each in ("direct", "relay")
        ],
        "engine": kind,
        "port": 18_000,
        "models": [model],
        "engines": [
            {
                "kind": kind,
                "version": "0.5.2",
                "port": 18_000,
                "service": "",
                "healthy": True,
                "models": [model],
                "in_flight": in_flight,
                "running": in_flight,
                "waiting": 0,
                "capacity": 32,
                "cache_used": round(rng.uniform(0.2, 0.7), 2),
                "error": None,
            }
        ],
        "gpu_name": name,
        "num_gpus": number,
        "gpus": [gpu(rng, index, name, memory, watts, busy) for index in range(number)],
        "gpu_error": None,
        "gpu_signs": [],
        "in_flight": in_flight,
        "requests": rng.randrange(2000, 9000),
        "failures": place % 3,
        "hourly_cost": round(0.31 * number + 0.05 * place, 3),
        "label": ("chat", "chat-eu", "batch", "long-context", "night")[place % 5],
        "error": None,
        "tokens_per_s": round(rng.uniform(180, 900), 1),
        "requests_per_s": round(rng.uniform(0.5, 3), 2),
        "errors": 0,
        "machine_id": 9100 + place,
        "geolocation": PLACES[place % len(PLACES)],
        "ends_unix": now + left,
        "time_left": {
            "ends_unix": now + left,
            "contract_s": left,
            "credit_s": 3600.0 * 60,
            "left_s": left,
            "because": "contract",
            "outbid_risk": "none",
            "price_rise": None,
            "drains_in_s": left - 600,
            "draining": False,
        },
        "draining": False,
        "tunnel_since_s": 1100.0,
        "machine": {"rented_before": place % 2 == 0, "score": round(rng.uniform(0.82, 0.99), 2)},
    }


def fleet(count: int = 6, *, now: float, seed: int = 7) -> dict[str, Any]:
    """An overview of so many backends. From four on one of them is in trouble, and one ends soon."""
    rng = random.Random(seed)
    backends = [backend(rng, place, now) for place in range(count)]
    if count > 3:
        backends[3].update(
            state="unhealthy",
            since_s=42.0,
            error="the engine on port 18000 does not answer: connection refused",
            in_flight=0,
            tokens_per_s=0,
            errors=14,
            gpus=[],
            gpu_error="nvidia-smi does not answer; a GPU may hang",
        )
        backends[1]["time_left"] |= {"left_s": 1500.0, "drains_in_s": 900.0, "outbid_risk": "high"}
    states = [one["state"] for one in backends]
    served = sum(one["hourly_cost"] for one in backends)
    return {
        "version": "0.1.0",
        "url": "http://127.0.0.1:8080/v1",
        "status": "degraded" if "unhealthy" in states else "healthy" if states else "unhealthy",
        "reason": f"{states.count('healthy')} of {count} backends can serve" if count > 3 else None,
        "uptime_s": 86_412.0,
        "vast_api": {"status": "healthy", "latency_ms": 182.0, "error": None},
        "account": {"credit_dollars": 214.37, "dollars_per_hour": served, "hours_left": 43.2},
        "counts": {
            "total": count,
            "healthy": states.count("healthy"),
            "unhealthy": states.count("unhealthy"),
            "connecting": 0,
            "discovered": 0,
            "draining": 0,
            "removing": 0,
        },
        "totals": {
            "in_flight": sum(one["in_flight"] for one in backends),
            "waiting": 2,
            "requests_per_s": 11.4,
            "errors_per_s": 0.0,
            "tokens_in_per_s": 8_214.0,
            "tokens_out_per_s": 2_731.0,
            "sticky_share": 0.94,
            "requests": 48_213,
            "errors": 37,
            "tokens_in": 31_204_000,
            "tokens_out": 9_871_000,
            "dollars_per_hour": served,
            "dollars_per_million_tokens": 0.412,
            "ttft_p50_ms": 184.0,
            "ttft_p99_ms": 912.0,
            "cost_today_dollars": 61.18,
            "tokens_today": 41_075_000,
        },
        "backends": backends,
    }


def points(*, now: float, count: int = 360, seed: int = 3) -> list[dict[str, Any]]:
    """An hour of history, one point for each ten seconds."""
    rng, last = random.Random(seed), int(now) // 10 * 10
    found = []
    for place in range(count):
        wave = 0.75 + 0.25 * math.sin(place / 55) + rng.uniform(-0.06, 0.06)
        dip = 0.45 if 210 < place < 235 else 1.0
        found.append(
            {
                "at_unix": last - (count - 1 - place) * 10,
                "requests": round(114 * wave * dip),
                "errors": 9 if 212 < place < 222 else 0,
                "tokens_in": round(82_000 * wave * dip),
                "tokens_out": round(27_000 * wave * dip),
                "ttft_p50_ms": round(150 + 90 * wave + (400 if dip < 1 else 0) + rng.uniform(0, 30)),
                "in_flight": round(52 * wave),
                "waiting": 14 if dip < 1 else round(rng.uniform(0, 3)),
                "gpu_percent": round(88 * wave * dip, 1),
                "gpu_memory_percent": round(79 + 3 * wave, 1),
                "dollars_per_hour": 7.42 if place < 140 else 8.93,
                "healthy": 5,
            }
        )
    return found


def event(
    seq: int, at: float, kind: str, instance: int | None, text: str, level: str = "info"
) -> dict[str, Any]:
    """One event as `/vastproxy/v1/events` tells it."""
    return {"seq": seq, "at_unix": at, "kind": kind, "level": level, "instance": instance, "text": text}


def events(*, now: float) -> list[dict[str, Any]]:
    """What happened, the oldest first."""
    ids = [FIRST_ID + place * 977 for place in range(6)]
    told = [
        ("account_read", None, "the account has 6 instances, 6 of them are ours to serve", "info"),
        ("backend_added", ids[5], f"[backend={ids[5]}] added", "info"),
        ("path_changed", ids[5], f"[backend={ids[5]}] path: relay", "info"),
        ("state_changed", ids[5], f"[backend={ids[5]}] connecting → healthy", "info"),
        ("path_changed", ids[5], f"[backend={ids[5]}] path: direct: the better one", "info"),
        ("label_written", ids[0], f"[backend={ids[0]}] label set to 'chat'", "info"),
        (
            "engine_ejected",
            ids[3],
            f"[backend={ids[3]}] the engine on port 18000 gets no requests for 30 s: connection refused",
            "warning",
        ),
        (
            "state_changed",
            ids[3],
            f"[backend={ids[3]}] healthy → unhealthy: the engine on port 18000 does not answer: connection refused",
            "warning",
        ),
        ("request_failed", ids[3], "request 5f2c failed with 503: the answer broke off", "error"),
    ]
    first = now - 60 * len(told)
    found = [event(at + 1, first + 57 * at, *row) for at, row in enumerate(told)]
    found[-1]["request_id"] = "5f2c"
    return found


def cost(*, now: float, by: str = "instance") -> dict[str, Any]:
    """A day of the ledger."""
    names = {
        "instance": [str(FIRST_ID + place * 977) for place in range(6)],
        "model": list(MODELS),
        "key": ["web", "nightly", "notebook"],
        "hour": [f"2026-08-01T{hour:02d}:00:00+00:00" for hour in range(24)],
    }[by]
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "dollars": round(31.4 / (place + 1.6), 3),
            "idle_dollars": round(2.9 / (place + 2), 3),
            "tokens_in": 9_400_000 // (place + 1),
            "tokens_out": 3_100_000 // (place + 1),
            "estimated_tokens": 120_000 if place == 2 else 0,
            "requests": 14_200 // (place + 1),
            "dollars_per_million_tokens": round(0.35 + place * 0.07, 3),
        }
        for place, name in enumerate(names)
    ]
    figures = ("dollars", "idle_dollars", "tokens_in", "tokens_out", "estimated_tokens", "requests")
    total: dict[str, Any] = {name: sum(row[name] for row in rows) for name in figures}
    return {
        "by": by,
        "since_unix": now - 86_400,
        "until_unix": now,
        "total": total | {"dollars_per_million_tokens": 0.412},
        "rows": rows,
    }


def machines(*, now: float) -> list[dict[str, Any]]:
    """What is known of machines."""
    return [
        {
            "machine_id": 9100 + place,
            "rented_before": True,
            "first_seen_unix": now - 90 * 86_400,
            "last_seen_unix": now - place * 3600,
            "hours": 12.5 * (place + 1),
            "requests": 48_000 // (place + 1),
            "errors": place * 3,
            "tunnel_drops": place,
            "ttft_p50_ms": 160 + 20 * place,
            "tokens_per_s": 840 - 90 * place,
            "score": None if place == 4 else round(0.97 - 0.14 * place, 2),
        }
        for place in range(5)
    ]
