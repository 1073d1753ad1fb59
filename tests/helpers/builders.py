"""Values for tests, with every field defaulted to something real."""

from typing import Any

from vastproxy.services.backends.discovery_plan import DiscoveredEngine, Origin
from vastproxy.services.backends.engine import Engine
from vastproxy.services.backends.engine_kinds import EngineKind, EngineTarget
from vastproxy.services.backends.health import Observation
from vastproxy.vastai.types import Instance

#: A running instance with both paths, as the API shows it; the fields that anything here looks at.
ROW: dict[str, Any] = {
    "id": 48001001,
    "machine_id": 24817,
    "actual_status": "running",
    "intended_status": "running",
    "cur_state": "running",
    "next_state": "running",
    "label": None,
    "template_id": 311204,
    "template_hash_id": "0b8a6e2f3c914b7f9f1f6d1f0f3a2c77",
    "template_name": "SGLang",
    "image_uuid": "vastai/sglang:v0.5.9",
    "image_runtype": "ssh ssh_direc ssh_proxy",
    "extra_env": [["SGLANG_ARGS", "--host 127.0.0.1 --port 18000"]],
    "jupyter_token": "token-of-48001001",
    "public_ipaddr": "203.0.113.7\n",
    "ssh_host": "ssh5.vast.ai",
    "ssh_port": 21734,
    "ports": {"22/tcp": [{"HostIp": "::", "HostPort": "41022"}, {"HostIp": "0.0.0.0", "HostPort": "41022"}]},
    "start_date": 1786292799.75,
    "gpu_name": "RTX 4090",
    "gpu_arch": "nvidia",
    "num_gpus": 1,
    "dph_total": 0.36,
}


def make_row(**over: Any) -> dict[str, Any]:
    """One row of the instance list."""
    row = {**ROW, **over}
    if "id" in over and "jupyter_token" not in over:
        row["jupyter_token"] = f"token-of-{over['id']}"
    return row


def make_instance(**over: Any) -> Instance:
    """One instance, from a row of the list."""
    instance = Instance.from_json(make_row(**over))
    assert instance is not None
    return instance


def make_engine(
    kind: EngineKind = EngineKind.VLLM,
    port: int = 18000,
    models: tuple[str, ...] = ("m",),
    token: str | None = None,
    instance_id: int = 0,
) -> Engine:
    """One healthy engine, as a search has found it."""
    found = DiscoveredEngine(EngineTarget(kind, port), models, Origin.PROBING)
    engine = Engine(found, instance_id=instance_id, token=token)
    engine.observe(Observation.GOOD, 0.0, "", unhealthy_after=3, proof_s=10.0)
    return engine
