"""What is known of backends becomes samples, what is not known becomes none, and what others wrote stays a value."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.scraped import Scraped, scraped
from tests.helpers.watched import BACKEND, ENGINE, GPU
from vastproxy.services.backends.gpus import Gpu, Sign, Trouble
from vastproxy.services.metrics.backend_text import Columns, is_host_key_refused
from vastproxy.services.metrics.exposition import Form
from vastproxy.services.metrics.families import BACKEND_FAMILIES, GPU_FAMILIES
from vastproxy.services.snapshot import BackendSnapshot


def told(*backends: BackendSnapshot, form: Form = Form.TEXT) -> Scraped:
    columns = Columns()
    for backend in backends:
        columns.add(backend)
    return scraped(columns.text(form), form)


@pytest.mark.parametrize("form", Form)
def test_a_backend_with_everything(form: Form) -> None:
    found = told(BACKEND, form=form)
    one = {"instance_id": "7"}
    assert found.names == {family.name for family in (*BACKEND_FAMILIES, *GPU_FAMILIES)}
    assert found.get("vastproxy_backend_up", **one) == 1
    assert found.get("vastproxy_backend_state", **one, state="healthy") == 1
    assert found.get("vastproxy_backend_state_seconds", **one) == 12.5
    what = {"gpu_name": "H100 SXM", "gpus": "2", "engine": "sglang", "path": "direct"}
    assert found.get("vastproxy_backend_info", **one, **what) == 1
    assert found.get("vastproxy_backend_in_flight", **one) == 2
    assert found.get("vastproxy_backend_requests_total", **one) == 900
    assert found.get("vastproxy_backend_failures_total", **one) == 3
    assert found.get("vastproxy_backend_cost_dollars_per_hour", **one) == 2.5
    assert found.get("vastproxy_tunnel_up", **one, path="direct") == 1
    assert found.get("vastproxy_tunnel_up", **one, path="relay") == 0
    assert found.get("vastproxy_tunnel_streams", **one, path="direct") == 4
    assert found.get("vastproxy_tunnel_host_key_refused", **one, path="relay") == 1
    assert len(found.all("vastproxy_tunnel_host_key_refused")) == 1


def test_engines() -> None:
    lame = replace(ENGINE, port=8000, kind="vllm", healthy=False, running=None, waiting=None, capacity=None)
    found = told(replace(BACKEND, engines=(ENGINE, replace(lame, cache_used=None))))
    good = {"instance_id": "7", "port": "18000", "engine": "sglang"}
    bad = {"instance_id": "7", "port": "8000", "engine": "vllm"}
    assert (found.get("vastproxy_engine_up", **good), found.get("vastproxy_engine_up", **bad)) == (1, 0)
    assert found.get("vastproxy_engine_running", **good) == 3
    assert found.get("vastproxy_engine_waiting", **good) == 1
    assert found.get("vastproxy_engine_capacity", **good) == 64
    assert found.get("vastproxy_engine_cache_used_ratio", **good) == 0.25
    for name in ("running", "waiting", "capacity", "cache_used_ratio"):
        assert found.get(f"vastproxy_engine_{name}", **bad) is None


def test_gpus_are_told_in_base_units() -> None:
    found = told(BACKEND)
    first, second = ({"instance_id": "7", "gpu": index} for index in ("0", "1"))
    assert found.get("vastproxy_gpu_utilization_ratio", **first) == 0.57
    assert found.get("vastproxy_gpu_temperature_celsius", **second) == 92
    assert found.get("vastproxy_gpu_memory_used_bytes", **first) == 1024**3
    assert found.get("vastproxy_gpu_memory_total_bytes", **first) == 81_559 * 1024**2
    assert found.get("vastproxy_gpu_power_watts", **first) == 612.41
    assert found.get("vastproxy_gpu_power_limit_watts", **first) == 700


def test_what_a_gpu_does_not_tell_is_no_sample() -> None:
    found = told(replace(BACKEND, gpus=(Gpu(0), replace(GPU, index=1)), gpu_signs=()))
    for family in GPU_FAMILIES[:-1]:
        assert found.label_values(family.name, "gpu") == {"1"}


def test_signs_of_trouble() -> None:
    """Two Xid events are one sign: their numbers are for the log."""
    signs = (Sign(Trouble.THERMAL, 1), Sign(Trouble.XID, code=79), Sign(Trouble.XID, code=31))
    found = told(replace(BACKEND, gpu_signs=tuple(sign.to_json() for sign in signs)))
    assert found.all("vastproxy_gpu_sign") == {
        frozenset({("instance_id", "7"), ("gpu", "1"), ("sign", "thermal"), ("fault", "no")}): 1,
        frozenset({("instance_id", "7"), ("sign", "xid"), ("fault", "yes")}): 1,
    }


def test_a_backend_of_which_nothing_is_known() -> None:
    bare = replace(
        BACKEND, state="connecting", path=None, paths=(), engine=None, engines=(), gpus=(), gpu_signs=()
    )
    found = told(replace(bare, hourly_cost=None, gpu_name='bad "GPU"\n\\'))
    assert found.get("vastproxy_backend_up", instance_id="7") == 0
    assert found.label_values("vastproxy_backend_info", "gpu_name") == {
        'bad "GPU"\N{REPLACEMENT CHARACTER}\\'
    }
    assert "vastproxy_backend_cost_dollars_per_hour" not in found.names


def test_no_backends_are_no_text() -> None:
    assert told().samples == {}


@pytest.mark.parametrize("error", [None, "", "no answer within 10 s", "the key is not accepted"])
def test_other_errors_are_not_about_host_keys(error: str | None) -> None:
    assert not is_host_key_refused(error)


def test_what_a_login_says_of_a_host_key_is_known_here() -> None:
    """The words are those of the check itself."""
    source = (Path(__file__).parents[4] / "src/services/tunnels/hostcheck.py").read_text()
    said = [line.strip() for line in source.splitlines() if 'f"HOST KEY ' in line]
    assert len(said) == 4
    assert all(is_host_key_refused(line) for line in said)
