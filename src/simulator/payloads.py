"""JSON rows as the vast.ai API sends them: instances, offers, the user (vast.ai API docs, 2026-08)."""

import hashlib
from typing import Any

from vastproxy.simulator.catalog import DRIVER_VERSION, GPUS, IMAGES, PLACES

JsonObject = dict[str, Any]

#: Length of a simulated contract, 40 days.
CONTRACT_S = 3_456_000.0


def instance_row(
    instance_id: int,
    *,
    gpu: str = "RTX 4090",
    num_gpus: int = 1,
    engine: str | None = "sglang",
    model: str = "Qwen/Qwen3-8B",
    label: str | None = None,
    start_date: float = 0.0,
    token: str = "",
) -> JsonObject:
    """One instance with every field that the list has, at documentation addresses; its phase is not set."""
    place, country = PLACES[instance_id % len(PLACES)]
    row: JsonObject = {
        "id": instance_id,
        "machine_id": 24_000 + instance_id % 997,
        "host_id": 61_000 + instance_id % 499,
        "hosting_type": 0,
        "bundle_id": 7_700_000 + instance_id % 10_007,
        "external": False,
        "label": label,
        "jupyter_token": token or f"simulated-token-{instance_id}",
        "uptime_mins": None,
        "start_date": start_date,
        "end_date": start_date + CONTRACT_S,
        "duration": CONTRACT_S,
        "time_remaining": "",
        "time_remaining_isbid": "",
        "client_run_time": 1.1,
        "host_run_time": 2_592_000.0,
        "geolocation": place,
        "country_code": country,
        "verification": "verified",
        "rentable": False,
        "reliability2": 0.9967,
        "volume_info": [],
        "logo": "/static/logos/vastai_small2.png",
        "webpage": None,
    }
    row |= _software(engine, model)
    row |= _network(instance_id)
    row |= _hardware(gpu, num_gpus)
    row |= _money(GPUS[gpu].dph * num_gpus, GPUS[gpu].min_bid * num_gpus)
    return row


def _software(engine: str | None, model: str) -> JsonObject:
    image = IMAGES.get(engine or "")
    template = image.template if image else None
    hash_id = hashlib.md5(template.encode(), usedforsecurity=False).hexdigest() if template else None
    return {
        "template_id": 311_200 + len(template) if template else None,
        "template_hash_id": hash_id,
        "template_name": template,
        "image_uuid": image.name if image else "ubuntu:24.04",
        "image_args": [],
        "image_runtype": "ssh ssh_direc ssh_proxy",
        "extra_env": environment(engine, model),
        "onstart": "entrypoint.sh",
        "os_version": "22.04",
    }


def environment(engine: str | None, model: str) -> list[list[str]]:
    """`extra_env` in its normal form: pairs, ports as pseudo keys."""
    image = IMAGES.get(engine or "")
    if image is None:
        return []
    pairs = [[image.model_env, model]]
    if image.args_env:
        pairs.append([image.args_env, f"--host 127.0.0.1 --port {image.port}"])
    return [
        *pairs,
        ["OPEN_BUTTON_PORT", "1111"],
        ["OPEN_BUTTON_TOKEN", "1"],
        ["-p 1111:1111", "1"],
        ["-p 8000:8000", "1"],
    ]


def _network(instance_id: int) -> JsonObject:
    idx = str(instance_id % 9 + 1)
    return {
        "public_ipaddr": f"203.0.113.{instance_id % 200 + 1}\n",
        "local_ipaddrs": "10.0.0.5 172.17.0.2 \n",
        "static_ip": True,
        "ssh_host": f"ssh{idx}.vast.ai",
        "ssh_idx": idx,
        "ssh_port": 20_000 + instance_id % 10_000,
        "machine_dir_ssh_port": 41_000,
        "direct_port_count": 100,
        "direct_port_start": 41_000,
        "direct_port_end": 41_019,
        "ports": ports(40_000 + instance_id % 10_000),
        "inet_up": 812.4,
        "inet_down": 930.7,
        "inet_up_cost": 0.00195,
        "inet_down_cost": 0.00195,
    }


def ports(ssh_port: int) -> JsonObject:
    """The Docker port map with sshd on `ssh_port`. The IPv6 entry comes first, as it sometimes does."""
    return {
        "22/tcp": [
            {"HostIp": "::", "HostPort": str(ssh_port)},
            {"HostIp": "0.0.0.0", "HostPort": str(ssh_port)},
        ]
    }


def _hardware(gpu: str, num_gpus: int) -> JsonObject:
    kind = GPUS[gpu]
    return {
        "cpu_arch": "amd64",
        "cpu_cores": 64,
        "cpu_cores_effective": 16.0,
        "cpu_name": "AMD EPYC 7542 32-Core Processor",
        "cpu_ram": 257_698,
        "cpu_util": 0.031,
        "mem_limit": 64.2,
        "mem_usage": 7.91,
        "vmem_usage": 30.4,
        "gpu_name": gpu,
        "gpu_arch": "nvidia",
        "num_gpus": num_gpus,
        "gpu_frac": 0.25,
        "gpu_ram": kind.memory_mib,
        "gpu_totalram": kind.memory_mib * num_gpus,
        "gpu_util": 4.0,
        "gpu_temp": 41.0,
        "gpu_lanes": 16,
        "gpu_mem_bw": kind.bandwidth,
        "bw_nvlink": 450.0 if "SXM" in gpu else 0.0,
        "cuda_max_good": 12.8,
        "driver_version": DRIVER_VERSION,
        "compute_cap": kind.compute_cap,
        "pci_gen": 4.0,
        "pcie_bw": 24.9,
        "mobo_name": "ROMED8-2T",
        "disk_name": "Samsung SSD 990 PRO",
        "disk_space": 60.0,
        "disk_bw": 5120.0,
        "disk_util": 21.4,
        "disk_usage": 21.4,
        "total_flops": kind.tflops * num_gpus,
        "dlperf": round(kind.tflops * num_gpus * 1.19, 1),
    }


def _money(dph: float, min_bid: float) -> JsonObject:
    disk = 0.0133
    total = round(dph + disk, 4)
    costs = {
        "gpuCostPerHour": dph,
        "diskHour": disk,
        "totalHour": total,
        "discountTotalHour": 0,
        "discountedTotalPerHour": total,
    }
    return {
        "is_bid": False,
        "min_bid": round(min_bid, 4),
        "dph_base": round(dph, 4),
        "dph_total": total,
        "storage_cost": 0.16,
        "storage_total_cost": disk,
        "vram_costperhour": 1.42e-05,
        "search": dict(costs),
        "instance": dict(costs),
        "credit_balance": None,
        "credit_discount": None,
        "credit_discount_max": 0.1,
        "dlperf_per_dphtotal": 270.6,
        "flops_per_dphtotal": 226.4,
        "score": 312.7,
    }


_NOT_IN_OFFERS = (
    *("label", "jupyter_token", "extra_env", "onstart", "image_uuid", "image_args", "image_runtype"),
    *("ports", "ssh_host", "ssh_idx", "ssh_port", "gpu_totalram", "gpu_util", "gpu_temp", "volume_info"),
)


def offer_row(
    offer_id: int, *, gpu: str, num_gpus: int = 1, verified: bool = True, now: float = 0.0
) -> JsonObject:
    """One machine for rent, with the fields that offers have and instances lack (and the other way round)."""
    kind = GPUS[gpu]
    row = instance_row(offer_id, gpu=gpu, num_gpus=num_gpus, engine=None, start_date=now)
    for name in (
        "label",
        "jupyter_token",
        "extra_env",
        "onstart",
        "image_uuid",
        "image_args",
        "image_runtype",
    ):
        del row[name]
    for name in (
        "ports",
        "ssh_host",
        "ssh_idx",
        "ssh_port",
        "gpu_totalram",
        "gpu_util",
        "gpu_temp",
        "volume_info",
    ):
        del row[name]
    return row | {
        "ask_contract_id": offer_id,
        "gpu_total_ram": kind.memory_mib * num_gpus,
        "gpu_max_power": kind.power_w,
        "gpu_max_temp": 84.0,
        "gpu_display_active": False,
        "cpu_ghz": 3.4,
        "driver_vers": 570_133_020,
        "disk_space": 812.4,
        "internet_up_cost_per_tb": 1.95,
        "internet_down_cost_per_tb": 1.95,
        "public_ipaddr": row["public_ipaddr"].strip(),
        "geolocode": 1_128_349,
        "verification": "verified" if verified else "unverified",
        "vericode": 1 if verified else 0,
        "reliability": row["reliability2"],
        "discounted_dph_total": row["dph_total"],
        "rentable": True,
        "rented": False,
        "external": None,
        "vms_enabled": False,
        "resource_type": "gpu",
        "cluster_id": None,
    }


def user_row(ssh_key: str = "") -> JsonObject:
    """The account's owner, as `users/current` tells."""
    return {
        "id": 90_210,
        "email": "demo@example.com",
        "username": "demo@example.com",
        "fullname": "Demo User",
        "credit": 37.4182,
        "balance": 0.0,
        "balance_threshold": 0.0,
        "balance_threshold_enabled": False,
        "can_pay": True,
        "has_billing": True,
        "ssh_key": ssh_key,
        "sid": "simulated-sid",
        "host_agreement_accepted": None,
        "billed_expected": 0.0,
    }
