"""From the official OpenAI client through `vastproxy serve` and OpenSSH's sshd to a real engine, and back."""

import json
import os
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.engine.conftest import RealEngine
from tests.helpers.builders import make_row
from tests.helpers.ports import free_port
from tests.helpers.processes import Process
from tests.helpers.sshd import Sshd
from tests.helpers.vastapi import VastApi

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

INSTANCE = 48001001
MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


def _health(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


@pytest.fixture
def proxy(engine: RealEngine, tmp_path: Path) -> Iterator[str]:
    """The URL of a proxy that has found the engine in the one instance of its account."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = Path(sys.executable).with_name("vastproxy")
    with Sshd(tmp_path / "sshd") as sshd, VastApi() as api:
        opened = {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(sshd.port)}]}
        arguments = [["VLLM_ARGS", f"--host 127.0.0.1 --port {engine.port}"]]
        row = make_row(id=INSTANCE, public_ipaddr="127.0.0.1", ports=opened, extra_env=arguments)
        api.set_instances([row])
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "VAST_API_KEY": "test-key",
            "VAST_URL": api.url,
            "SSH_KEY_PATH": str(sshd.client_key_path),
            "LISTEN_ADDR": f"127.0.0.1:{port}",
            "VASTPROXY_LABEL": "none",
            "VASTPROXY_TUNNELS__STATE_DIR": str(tmp_path / "state"),
            "VASTPROXY_FLEET__POLL_INTERVAL_S": "1",
            "VASTPROXY_FLEET__PROBE_INTERVAL_S": "1",
            "VASTPROXY_ENGINES__PORTS": str(engine.port),
        }
        with Process(
            [program, "serve"],
            log=tmp_path / "proxy.log",
            ready=lambda: _health(url)[0] == 200,
            env=environment,
            cwd=tmp_path,
            ready_limit_s=60.0,
        ):
            yield url


@pytest.fixture
def client(proxy: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{proxy}/v1", api_key="unused", max_retries=0, timeout=120) as made:
        yield made


def test_the_installed_command_is_there() -> None:
    assert shutil.which("vastproxy", path=str(Path(sys.executable).parent))


def test_a_chat_comes_back_whole(client: openai.OpenAI, engine: RealEngine) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=engine.model, messages=MESSAGES, max_tokens=8
    )
    assert raw.headers["x-vastproxy-instance"] == str(INSTANCE)
    answer = raw.parse()
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 8


def test_a_chat_streams_piece_by_piece(client: openai.OpenAI, engine: RealEngine) -> None:
    stream = client.chat.completions.create(
        model=engine.model, messages=MESSAGES, max_tokens=8, stream=True, temperature=0
    )
    with stream:
        reasons = [choice.finish_reason for piece in stream for choice in piece.choices]
    assert len(reasons) > 2
    assert reasons[-1] in ("length", "stop")
    assert set(reasons[:-1]) == {None}


def test_streams_that_run_together_all_end(client: openai.OpenAI, engine: RealEngine) -> None:
    streams = [
        client.chat.completions.create(model=engine.model, messages=MESSAGES, max_tokens=4, stream=True)
        for _ in range(2)
    ]
    for stream in streams:
        with stream:
            assert [choice.finish_reason for piece in stream for choice in piece.choices][-1] is not None


def test_a_client_that_leaves_does_not_end_the_service(client: openai.OpenAI, engine: RealEngine) -> None:
    stream = client.chat.completions.create(model=engine.model, messages=MESSAGES, max_tokens=64, stream=True)
    with stream:
        next(iter(stream))
    answer = client.chat.completions.create(model=engine.model, messages=MESSAGES, max_tokens=2)
    assert answer.choices


def test_what_the_engine_refuses_reaches_the_client_as_the_engine_said_it(
    proxy: str, engine: RealEngine
) -> None:
    request = urllib.request.Request(f"{proxy}/v1/no-such-path", data=b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=30)
    with refused.value as error:
        assert error.code == 404
        assert error.headers["x-vastproxy-instance"] == str(INSTANCE)


def test_the_models_are_those_that_the_engine_names(client: openai.OpenAI, engine: RealEngine) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ([engine.model] if engine.lists_models else [])


def test_the_health_page_counts_the_engine(proxy: str) -> None:
    status, body = _health(proxy)
    assert status == 200
    assert json.loads(body)["backends"]["healthy"] == 1


@pytest.mark.parametrize("path", ["/reset", "/slots", "//load_model", "/%70rops"])
def test_paths_that_change_or_leak_the_engine_are_refused(proxy: str, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(proxy + path, data=b"{}"), timeout=30)
    with refused.value as error:
        assert error.code in (403, 404)
        assert "x-vastproxy-instance" not in error.headers
