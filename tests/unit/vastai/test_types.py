"""Instances, users, keys and offers: every quirk of the API's JSON, and that no JSON ever raises."""

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.vastai.support import data, instance
from vastproxy.vastai.environment import parse_env
from vastproxy.vastai.parsing import (
    as_bool,
    as_float,
    as_int,
    as_mapping,
    as_port,
    as_rows,
    as_text,
    as_texts,
)
from vastproxy.vastai.phase import phase_of
from vastproxy.vastai.ports import engine_ports, parse_ports
from vastproxy.vastai.types import Instance, InstanceList, Offer, Phase, SshKey, User

SECRET = "s3cr3t-a7f0"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted(data("instance_running_direct.json")["instances"])


def make(**row: Any) -> Instance:
    parsed = Instance.from_json({"id": 7, **row})
    assert parsed is not None
    return parsed


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("running_direct", Phase.RUNNING),
        ("running_proxy_jupyter", Phase.RUNNING),
        ("running_ports_not_yet", Phase.RUNNING),
        ("by_id_without_ports", Phase.RUNNING),
        ("args_runtype_no_ssh", Phase.RUNNING),
        ("amd_null_extra_env", Phase.RUNNING),
        ("provisioning_null", Phase.PROVISIONING),
        ("loading", Phase.LOADING),
        ("created_abandoned", Phase.STOPPED),
        ("stopped", Phase.STOPPED),
        ("outbid", Phase.OUTBID),
        ("queued_restart", Phase.QUEUED),
        ("exited_intended_running", Phase.CRASHED),
        ("rebooting", Phase.RESTARTING),
        ("frozen", Phase.FROZEN),
        ("offline", Phase.OFFLINE),
        ("unknown", Phase.UNKNOWN),
    ],
)
def test_phase_of_every_recorded_state(name: str, phase: Phase) -> None:
    one = instance(name)
    assert one.phase is phase
    assert one.is_running is (phase is Phase.RUNNING)


@pytest.mark.parametrize(
    ("actual", "intended", "current", "following", "outbid", "phase"),
    [
        ("running", "stopped", "running", "stopped", False, Phase.STOPPING),
        ("running", "frozen", "running", "running", False, Phase.STOPPING),
        ("running", None, None, None, False, Phase.RUNNING),
        ("RUNNING", "running", "running", "running", True, Phase.RUNNING),
        ("exited", "running", "running", "running", True, Phase.OUTBID),
        ("stopped", "running", "running", "running", False, Phase.QUEUED),
        ("error", "running", "running", "running", False, Phase.CRASHED),
        ("created", "running", "running", "running", False, Phase.PROVISIONING),
        ("created", "running", "stopped", "running", False, Phase.QUEUED),
        ("loading", "running", "stopped", "stopped", False, Phase.STOPPED),
        ("loading", "stopped", "stopped", "stopped", True, Phase.OUTBID),
        (None, "running", "running", "running", True, Phase.PROVISIONING),
        ("scheduling", "running", "stopped", "running", False, Phase.QUEUED),
        ("destroyed", None, None, None, False, Phase.DESTROYED),
        ("terminated", "running", None, None, False, Phase.DESTROYED),
        ("hibernating", "running", "running", "running", False, Phase.UNKNOWN),
    ],
)
def test_phase_table(
    actual: str | None,
    intended: str | None,
    current: str | None,
    following: str | None,
    outbid: bool,
    phase: Phase,
) -> None:
    assert (
        phase_of(actual=actual, intended=intended, current=current, following=following, outbid=outbid)
        is phase
    )


def test_a_running_instance_with_a_direct_path() -> None:
    one = instance("running_direct")
    assert one.public_ipaddr == "203.0.113.7"  # the API's value ends in a newline
    assert one.direct_ssh == ("203.0.113.7", 41022)
    assert one.relay_ssh == (("ssh5.vast.ai", 21734), ("ssh5.vast.ai", 21735))
    assert one.ports == {"22/tcp": 41022, "1111/tcp": 41011, "8000/tcp": 41080}
    assert one.env["MODEL_NAME"] == "Qwen/Qwen3-8B"
    assert one.env["OPEN_BUTTON_PORT"] == "1111"
    assert one.port_flags == ("1111:1111", "8000:8000")
    assert one.engine_ports == (18000,)
    assert one.identity == "48001001@1786292799"
    assert one.hourly_cost == pytest.approx(0.3633)
    assert (one.num_gpus, one.gpu_name, one.gpu_ram_mb, one.gpu_util) == (1, "RTX 4090", 24564, 37.0)
    assert one.jupyter_token == "fixture-token-48001001"
    assert one.has_sshd
    assert one.trouble is None
    assert one.extra["mobo_name"] == "ROMED8-2T"
    assert "dph_total" not in one.extra
    assert repr(one) == "<Instance 48001001 running 1x RTX 4090 'llm'>"


def test_jupyter_moves_the_relay_port_up_by_one() -> None:
    one = instance("running_proxy_jupyter")
    assert one.direct_ssh is None
    assert one.relay_ssh == (("ssh2.vast.ai", 30213), ("ssh2.vast.ai", 30212))
    assert one.label == ""


def test_the_last_port_has_no_next_one() -> None:
    assert make(ssh_host="h", ssh_port=65_535).relay_ssh == (("h", 65_535),)


def test_runtype_args_has_no_sshd_and_so_no_address() -> None:
    one = instance("args_runtype_no_ssh")
    assert not one.has_sshd
    assert one.direct_ssh is None
    assert one.relay_ssh == ()
    assert one.engine_ports == (8000,)
    assert one.ports == {"8000/tcp": 41080}


def test_missing_parts_are_unknown_and_not_an_error() -> None:
    one = instance("by_id_without_ports")
    assert one.ports == {}
    assert one.direct_ssh is None
    early = instance("provisioning_null")
    assert (early.actual_status, early.public_ipaddr, early.env) == (None, None, {})
    bare = make()
    assert (bare.label, bare.ports, bare.identity, bare.hourly_cost) == ("", {}, "7@0", None)
    assert repr(bare) == "<Instance 7 provisioning ?x GPU>"


def test_amd_without_environment() -> None:
    one = instance("amd_null_extra_env")
    assert one.gpu_arch == "amd"
    assert one.env == {}
    assert one.label == "caf\u00e9 \u2013 g\u00fcnstig"
    assert one.direct_ssh == ("203.0.113.44", 33001)  # only an IPv6 entry: better than none


def test_old_and_negative_gpu_loads_are_unknown() -> None:
    """vast.ai repeats the last load of a stopped instance and says -1 for unknown."""
    assert instance("exited_intended_running").gpu_util is None
    assert make(actual_status="running", gpu_util=-1.0).gpu_util is None


def test_what_is_billed_falls_back_to_the_total() -> None:
    assert make(dph_total=0.5).hourly_cost == 0.5
    assert make(dph_total=0.5, instance={"totalHour": 0.0}).hourly_cost == 0.0


def test_trouble_is_recognised_whatever_its_case() -> None:
    assert "unresolvable CDI" in (instance("created_abandoned").trouble or "")
    assert make(status_msg="Manifest UNKNOWN\n").trouble == "Manifest UNKNOWN"


@pytest.mark.parametrize(
    "row", [{}, {"id": None}, {"id": "x"}, {"id": True}, {"id": 0}, {"id": -4}, {"id": 1.5}]
)
def test_a_row_without_an_id_is_no_instance(row: dict[str, Any]) -> None:
    assert Instance.from_json(row) is None


def test_instances_are_values() -> None:
    assert instance("loading") == instance("loading")
    assert len({instance("loading"), instance("loading")}) == 1
    listed = InstanceList([instance("loading")], skipped=2)
    assert (len(listed), listed.skipped) == (1, 2)
    assert InstanceList() == ()


def test_shown_forms_hold_no_secret_and_what_matters() -> None:
    row = data("instance_running_direct.json")["instances"]
    row |= {
        "jupyter_token": SECRET,
        "onstart": f"export A={SECRET}",
        "image_args": ["--api-key", SECRET, f"--token={SECRET}", "--port", "8000", "hf_" + SECRET],
        "extra_env": [
            ["HF_TOKEN", SECRET],
            ["SGLANG_ARGS", f"--api-key {SECRET}"],
            ["MODEL_NAME", "m"],
            ["E", None],
        ],
        "secret_of_tomorrow": SECRET,
    }
    one = make(**row)
    shown = json.dumps(one.to_json())
    for text in (shown, repr(one), str(one), repr(one.masked()), repr(InstanceList([one]))):
        assert SECRET not in text
    told = json.loads(shown)
    assert told["phase"] == "running"
    assert told["direct_ssh"] == ["203.0.113.7", 41022]
    assert told["env"] == {"HF_TOKEN": "***", "SGLANG_ARGS": "***", "MODEL_NAME": "m", "E": None}
    assert told["image_args"] == ["--api-key", "***", "***", "--port", "8000", "***"]
    assert told["jupyter_token"] == "***"
    assert "extra" not in told
    assert make().masked() == make()


@settings(deadline=None)
@given(row=st.dictionaries(st.sampled_from(FIELDS), JSON), unknown=JSON)
def test_no_json_makes_an_instance_raise(row: dict[str, Any], unknown: Any) -> None:
    """Any value in any field: parsing, every property and the shown form work, and the latter is JSON."""
    one = Instance.from_json({**row, "id": 7, "unheard_of": unknown})
    assert one is not None
    for name in ("phase", "is_running", "trouble", "direct_ssh", "relay_ssh", "engine_ports", "identity"):
        getattr(one, name)
    json.dumps(one.to_json(), allow_nan=False)
    assert hash(one) == hash(Instance.from_json({**row, "id": 7, "unheard_of": 1}))


@settings(deadline=None)
@given(
    token=st.just(SECRET),
    env=st.sampled_from(
        [[["A", SECRET]], {"A": SECRET}, f"-e A={SECRET}", [f"A={SECRET}"], [["SECRET", SECRET]]]
    ),
    row=st.dictionaries(st.sampled_from(["actual_status", "gpu_name", "num_gpus"]), JSON),
)
def test_secrets_are_never_in_a_repr(token: str, env: Any, row: dict[str, Any]) -> None:
    one = make(**row, jupyter_token=token, extra_env=env, onstart=token, image_args=["--key", token], x=token)
    assert SECRET not in repr(one) + repr([one])
    assert SECRET not in json.dumps(one.to_json())


@settings(deadline=None)
@given(row=st.dictionaries(st.sampled_from(["id", "email", "credit", "key", "public_key", "gpu_ram"]), JSON))
def test_no_json_makes_user_key_or_offer_raise(row: dict[str, Any]) -> None:
    for kind in (User, SshKey, Offer):
        repr(kind.from_json(row))


def test_user() -> None:
    user = User.from_json({**data("user_current.json"), "api_key": SECRET})
    assert user is not None
    assert (user.id, user.credit, user.balance) == (90210, 37.4182, 0.0)
    assert "api_key" not in user.extra
    assert "sid" not in user.extra
    assert "example.com" not in repr(user)


def test_offers() -> None:
    first = Offer.from_json(data("search_offers.json")["offers"][0])
    assert first is not None
    assert (first.id, first.gpu_name, first.dph_total, first.min_bid) == (5551, "RTX 4090", 0.3513, 0.21)
    assert first.extra["ask_contract_id"] == 5551


# --- the environment -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "env", "flags"),
    [
        ("list_of_pairs", {"MODEL_NAME": "Qwen/Qwen3-8B"}, ("8000:8000", "8265:8265/udp")),
        ("list_of_strings", {"MODEL_NAME": "Qwen/Qwen3-8B", "PORT": "8080"}, ()),
        ("dict", {"MODEL_NAME": "Qwen/Qwen3-8B"}, ("8000:8000",)),
        ("docker_flag_string", {"MODEL_NAME": "Qwen/Qwen3-8B"}, ("8000:8000",)),
        ("empty_list", {}, ()),
        ("null", {}, ()),
        ("pair_with_null_value", {"HF_TOKEN": None}, ()),
        ("pair_with_number", {"OPEN_BUTTON_PORT": "1111"}, ()),
    ],
)
def test_every_form_of_extra_env(form: str, env: dict[str, str], flags: tuple[str, ...]) -> None:
    assert parse_env(data("extra_env_variants.json")[form]) == (env, flags)


@pytest.mark.parametrize(
    ("raw", "env", "flags"),
    [
        (
            "-e 'A=x y' --env=B=2 --env C=3 -p 1:1 --publish 2:2 -p=3:3",
            {"A": "x y", "B": "2", "C": "3"},
            ("1:1", "2:2", "3:3"),
        ),
        ('-e A="open -p 5:5 -h host D=1 -e', {"A": '"open', "D": "1"}, ("5:5",)),
        (["-p 8000:8000", "A=b=c", "ALONE"], {"A": "b=c", "ALONE": None}, ("8000:8000",)),
        ([["-h host", "1"], ["-v /a:/b", "1"], ["A"], [], 5, {"B": True}], {"A": None, "B": None}, ()),
    ],
    ids=["quotes", "open quote", "strings", "junk"],
)
def test_unusual_environments(raw: object, env: dict[str, str | None], flags: tuple[str, ...]) -> None:
    assert parse_env(raw) == (env, flags)


# --- ports -----------------------------------------------------------------------------------------------


def test_ipv4_is_preferred_whatever_the_order_and_type() -> None:
    raw = {
        "22/tcp": [{"HostIp": "::", "HostPort": "1"}, {"HostIp": "0.0.0.0", "HostPort": 2}],
        "1/tcp": [{"HostIp": "::", "HostPort": "3"}, {"HostIp": "::1", "HostPort": "4"}],
        "2/tcp": [5],
        "3/tcp": ["6"],
        "4/tcp": 7,
        "5/tcp": [{"HostIp": "0.0.0.0", "HostPort": "0"}, {"HostPort": "70000"}, None],
        "6/tcp": None,
    }
    assert parse_ports(raw) == {"22/tcp": 2, "1/tcp": 3, "2/tcp": 5, "3/tcp": 6, "4/tcp": 7}
    assert parse_ports([22, 8000]) == {}


@pytest.mark.parametrize(
    ("env", "ports"),
    [
        ({"SGLANG_ARGS": "--host 127.0.0.1 --port 18000"}, (18000,)),
        ({"VLLM_ARGS": "--port=18001 --api-key x"}, (18001,)),
        ({"LLAMA_ARGS": "-p 'a prompt' --port 1 --port 18002"}, (18002,)),
        ({"LLAMA_ARG_PORT": "8081"}, (8081,)),
        ({"SGLANG_ARGS": "--port $PORT"}, ()),
        ({"SGLANG_ARGS": "--port"}, ()),
        ({"SGLANG_ARGS": "--port 99999"}, ()),
        ({"COMFYUI_ARGS": "--port 18188"}, ()),
        ({"PORT": "8080"}, ()),
        ({"OLLAMA_HOST": "127.0.0.1:21434"}, (21434,)),
        ({"OLLAMA_HOST": "0.0.0.0"}, (11434,)),
        ({"OLLAMA_HOST": "http://0.0.0.0"}, (80,)),
        ({"OLLAMA_HOST": "https://h:9000/x"}, (9000,)),
        ({"OLLAMA_HOST": ":5"}, (5,)),
        ({"OLLAMA_HOST": "[::1]"}, (11434,)),
        ({"SGLANG_ARGS": None}, ()),
        (
            {
                "PORTAL_CONFIG": "localhost:1111:11111:/:Instance Portal|localhost:7860:17860:/:Model UI|"
                "localhost:8000:18000:/docs:SGLang API|localhost:8080:18080:/:Jupyter|broken|"
                "localhost:7500:17500:/:Open WebUI|localhost:21434:11434:/:Ollama API|a:1:x:/:Some API"
            },
            (18000, 11434),
        ),
        ({"PORTAL_CONFIG": "h:8000:18000:/:vLLM API", "VLLM_ARGS": "--port 9000"}, (9000, 18000)),
    ],
)
def test_engine_ports_in_the_environment(env: dict[str, str | None], ports: tuple[int, ...]) -> None:
    assert engine_ports(env=env, image="x", image_args=(), onstart="") == ports


@pytest.mark.parametrize(
    ("image", "args", "onstart", "ports"),
    [
        ("vllm/vllm-openai:latest", ("--model", "m", "--port", "8001"), "", (8001,)),
        ("x", ("python3", "-m", "sglang.launch_server", "--port", "8002"), "", (8002,)),
        ("x", ("bash", "-c", "sleep 1; vllm serve m --port 8003"), "", (8003,)),
        ("nginx", ("--port", "80"), "", ()),
        ("x", (), "jupyter lab --port 8888\nvllm serve m \\\n  --port 8004 &\n", (8004,)),
        ("x", (), "# vllm serve --port 1\nllama-server -m x --port 8005 -p 9", (8005,)),
        ("x", (), "ray start --port 6379 && vllm serve m", ()),
        ("x", (), "OLLAMA_HOST=0.0.0.0:4000 ollama serve", (4000,)),
        ("x", (), "entrypoint.sh", ()),
    ],
)
def test_engine_ports_in_arguments_and_scripts(
    image: str, args: tuple[str, ...], onstart: str, ports: tuple[int, ...]
) -> None:
    """Only the options of a command that is an engine count."""
    assert engine_ports(env={}, image=image, image_args=args, onstart=onstart) == ports


def test_tgi_reads_its_port_from_the_environment() -> None:
    image = "ghcr.io/huggingface/text-generation-inference:3"
    assert engine_ports(env={"PORT": "5001"}, image=image, image_args=(), onstart="") == (5001,)


@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_no_text_makes_the_search_for_ports_raise(text: str) -> None:
    env = dict.fromkeys(("SGLANG_ARGS", "OLLAMA_HOST", "PORTAL_CONFIG", "LLAMA_ARG_PORT"), text)
    for port in engine_ports(env=env, image="vllm", image_args=(text,), onstart="vllm " + text):
        assert 1 <= port <= 65_535


# --- values ----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(value=JSON)
def test_readers_give_their_type_or_nothing(value: Any) -> None:
    assert as_int(value) is None or type(as_int(value)) is int
    assert as_float(value) is None or type(as_float(value)) is float
    assert as_text(value) is None or as_text(value)
    assert as_bool(value) in (None, True, False)
    assert as_port(value) is None or 1 <= (as_port(value) or 0) <= 65_535
    assert all(isinstance(one, str) for one in as_texts(value))
    assert isinstance(as_mapping(value), dict)
    assert all(isinstance(one, dict) for one in as_rows(value))


def test_edges_of_the_readers() -> None:
    whole: list[tuple[Any, int | None]] = [("12", 12), (" -3\n", -3), ("1_0", None), ("٣", None), (2.0, 2)]
    whole += [(2.5, None), (float("inf"), None), (False, None), ([], None), ("\x1c7\x1f", 7), ("\x1c", None)]
    assert [(raw, as_int(raw)) for raw, _ in whole] == whole
    numbers: list[tuple[Any, float | None]] = [
        ("1.5", 1.5),
        ("nan", None),
        ("x", None),
        (10**400, None),
        (True, None),
    ]
    assert [(raw, as_float(raw)) for raw, _ in numbers] == numbers
    texts: list[tuple[Any, str | None]] = [
        (" a ", "a"),
        ("", None),
        (5, "5"),
        (1.5, "1.5"),
        (10**40, None),
        ([], None),
    ]
    assert [(raw, as_text(raw)) for raw, _ in texts] == texts
    assert [as_bool(raw) for raw in (1, 0, 2, "true")] == [True, False, None, None]
    assert as_texts("one") == ("one",)
    assert as_texts(" ") == ()
    assert as_texts(["a", 5, None, {}]) == ("a", "5")


def test_phases_are_words() -> None:
    assert f"{Phase.OUTBID}" == "outbid"
    assert pickle.loads(pickle.dumps(Phase.OUTBID)) is Phase.OUTBID
