"""The fields of one row of the instance list, read leniently: whatever a field holds, it gives a value of its type."""

from collections.abc import Mapping
from typing import Any

from vastproxy.vastai.parsing import as_bool, as_float, as_int, as_mapping, as_port, as_text, as_texts
from vastproxy.vastai.ports import parse_ports

#: Names of the API that are read under another name here.
RENAMED = {
    *("extra_env", "image_uuid", "reliability2", "inet_up", "inet_down", "gpu_ram", "gpu_temp"),
    *("cpu_cores_effective", "cpu_ram", "disk_space", "disk_usage"),
}


def read_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the fields of `Instance`, all but the id and the environment. Never raises for any JSON."""
    return {**_identity(row), **_container(row), **_network(row), **_hardware(row), **_money(row)}


def _identity(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "machine_id": as_int(row.get("machine_id")),
        "host_id": as_int(row.get("host_id")),
        "actual_status": as_text(row.get("actual_status")),
        "intended_status": as_text(row.get("intended_status")),
        "cur_state": as_text(row.get("cur_state")),
        "next_state": as_text(row.get("next_state")),
        "status_msg": as_text(row.get("status_msg")) or "",
        "label": as_text(row.get("label")) or "",
        "template_id": as_int(row.get("template_id")),
        "template_hash_id": as_text(row.get("template_hash_id")),
        "template_name": as_text(row.get("template_name")),
    }


def _container(row: Mapping[str, Any]) -> dict[str, Any]:
    onstart = row.get("onstart")
    return {
        "image": as_text(row.get("image_uuid")) or "",
        "image_runtype": as_text(row.get("image_runtype")) or "",
        "image_args": as_texts(row.get("image_args")),
        "onstart": onstart if isinstance(onstart, str) else "",
        "jupyter_token": as_text(row.get("jupyter_token")),
    }


def _network(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "public_ipaddr": as_text(row.get("public_ipaddr")),  # vast.ai lets it end in a newline
        "static_ip": as_bool(row.get("static_ip")),
        "ssh_host": as_text(row.get("ssh_host")),
        "ssh_port": as_port(row.get("ssh_port")),
        "ports": parse_ports(row.get("ports")),
        "direct_port_count": as_int(row.get("direct_port_count")),
        "inet_up_mbps": as_float(row.get("inet_up")),
        "inet_down_mbps": as_float(row.get("inet_down")),
    }


def _hardware(row: Mapping[str, Any]) -> dict[str, Any]:
    running = row.get("actual_status") == "running"
    cores = as_float(row.get("cpu_cores_effective"))
    return {
        "gpu_name": as_text(row.get("gpu_name")) or "",
        "gpu_arch": as_text(row.get("gpu_arch")) or "",
        "num_gpus": as_int(row.get("num_gpus")),
        "gpu_ram_mb": as_int(row.get("gpu_ram")),
        "gpu_util": _not_negative(row.get("gpu_util")) if running else None,
        "gpu_temp_c": as_float(row.get("gpu_temp")) if running else None,
        "cpu_cores": cores if cores is not None else as_float(row.get("cpu_cores")),
        "cpu_ram_mb": as_int(row.get("cpu_ram")),
        "disk_space_gb": as_float(row.get("disk_space")),
        "disk_usage_gb": _not_negative(row.get("disk_usage")),
        "geolocation": as_text(row.get("geolocation")) or "",
        "verification": as_text(row.get("verification")) or "",
        "reliability": as_float(row.get("reliability2", row.get("reliability"))),
    }


def _money(row: Mapping[str, Any]) -> dict[str, Any]:
    dph_total = as_float(row.get("dph_total"))
    billed = as_float(as_mapping(row.get("instance")).get("totalHour"))
    return {
        "start_date": as_float(row.get("start_date")),
        "end_date": as_float(row.get("end_date")),
        "dph_total": dph_total,
        "hourly_cost": dph_total if billed is None else billed,
        "dph_base": as_float(row.get("dph_base")),
        "is_bid": as_bool(row.get("is_bid")) or False,
        "min_bid": as_float(row.get("min_bid")),
    }


def _not_negative(value: object) -> float | None:
    number = as_float(value)  # vast.ai writes -1 for "not known yet"
    return number if number is not None and number >= 0 else None
