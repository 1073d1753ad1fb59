"""`vastproxy serve` as a process: how it refuses to start, who may ask, and how it ends."""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.helpers.processes import wait_until
from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.raw import Answer, Client
from tests.helpers.scene import CHAT, Scene, ask, chat, open_scene, served_by
from tests.helpers.sse import SseReader
from tests.helpers.sshd import make_key
from tests.helpers.vastapi import Fault

SIGNALS = [signal.SIGTERM, signal.SIGINT]
#: Most of it is the end of an interpreter on a busy machine. What is not waited for would take a minute.
AT_ONCE_S = 8.0


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        yield scene


# -- how it refuses to start ---------------------------------------------------------------------------


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    return make_key(tmp_path / "id_ed25519")


async def refused(directory: Path, key_path: Path | None, *, words: str, **env: str) -> str:
    """The one line with which it refused to start, which must hold every one of `words`."""
    given = {"VAST_API_KEY": "secret-api-key", "VAST_URL": "http://127.0.0.1:9", **env}
    proxy = ProxyProcess(directory, key_path=key_path, env=given, secrets=["secret-api-key"])
    assert await proxy.run() == 2, proxy.output
    assert proxy.stdout == ""
    assert proxy.stderr.count("\n") == 1, proxy.stderr
    assert proxy.stderr.startswith("vastproxy: ")
    proxy.check_output()
    assert [word for word in words.split() if word not in proxy.stderr] == [], proxy.stderr
    return proxy.stderr


async def test_without_an_api_key(tmp_path: Path, key_path: Path) -> None:
    await refused(
        tmp_path, key_path, words="VAST_API_KEY https://cloud.vast.ai/manage-keys/", VAST_API_KEY=""
    )


async def test_without_an_ssh_key(tmp_path: Path) -> None:
    await refused(tmp_path, None, words="SSH_KEY_PATH ssh-keygen id_ed25519")


async def test_with_an_ssh_key_that_cannot_be_used(tmp_path: Path, key_path: Path) -> None:
    """Not there, a directory, open to others: the line names the path."""
    os.chmod(key_path, 0o644)
    await asyncio.gather(
        refused(tmp_path, tmp_path / "nowhere", words=f"SSH_KEY_PATH {tmp_path / 'nowhere'}"),
        refused(tmp_path, tmp_path, words=f"SSH_KEY_PATH {tmp_path}"),
        refused(tmp_path, key_path, words=f"{key_path} chmod 600"),
    )


async def test_with_an_ssh_key_that_is_none(tmp_path: Path) -> None:
    """Text, bytes, nothing, the beginning of a key."""
    contents = (
        b"no key at all\n",
        b"\x00\xff\xfe" * 100,
        b"",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n",
    )
    paths = [tmp_path / f"garbage-{number}" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        os.close(os.open(path, os.O_CREAT, 0o600))
        path.write_bytes(content)
    await asyncio.gather(*(refused(tmp_path, path, words=str(path)) for path in paths))


async def test_with_an_ssh_key_that_wants_a_passphrase(tmp_path: Path) -> None:
    path = make_key(tmp_path / "locked", passphrase="correct horse")
    await refused(tmp_path, path, words=f"{path} passphrase ssh-keygen")


async def test_on_a_port_in_use(tmp_path: Path, key_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        await refused(tmp_path, key_path, words=f"{address} in use --listen", LISTEN_ADDR=address)


async def test_with_a_broken_config_file(tmp_path: Path, key_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('{"fleet": {"label": "x",}}')
    await refused(tmp_path, key_path, words="broken.json line 1", VASTPROXY_CONFIG=str(path))


async def test_with_a_config_file_that_says_what_there_is_not(tmp_path: Path, key_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text('{"fleet": {"poll_intervall_s": 5}}')
    await refused(
        tmp_path,
        key_path,
        words="fleet.poll_intervall_s odd.json poll_interval_s",
        VASTPROXY_CONFIG=str(path),
    )


async def test_with_a_variable_that_means_nothing(tmp_path: Path, key_path: Path) -> None:
    await refused(
        tmp_path,
        key_path,
        words="VASTPROXY_FLEET__LABLE VASTPROXY_FLEET__LABEL",
        **{"VASTPROXY_FLEET__LABLE": "x"},
    )


async def test_with_a_value_that_cannot_be(tmp_path: Path, key_path: Path) -> None:
    await refused(
        tmp_path,
        key_path,
        words="fleet.probe_interval_s VASTPROXY_FLEET__PROBE_INTERVAL_S",
        VASTPROXY_FLEET__PROBE_INTERVAL_S="soon",
    )


async def test_open_to_others_without_keys(tmp_path: Path, key_path: Path) -> None:
    await refused(
        tmp_path, key_path, words="0.0.0.0:0 VASTPROXY_API_KEYS --insecure", LISTEN_ADDR="0.0.0.0:0"
    )


# -- who may ask ---------------------------------------------------------------------------------------


async def test_with_keys_only_who_brings_one_is_served(scene: Scene) -> None:
    """401 in OpenAI's shape without a key, and with a wrong one; monitoring needs none; no key is logged."""
    await scene.rent(101)
    proxy = await scene.serve(VASTPROXY_API_KEYS="first-key,second-key")
    for key in ("first-key", "second-key"):
        assert served_by(await ask(proxy, key=key)) == 101
    for path, headers in ((CHAT, {}), ("/v1/models", {"authorization": "Bearer wrong-key"})):
        refused = await proxy.ask("GET", path, headers)
        assert refused.status == 401
        assert refused.header("www-authenticate") == "Bearer"
        error = json.loads(refused.body)["error"]
        assert set(error) == {"message", "type", "code", "param"}
        assert error["code"] == "invalid_api_key"
    assert (await proxy.ask("GET", "/vastproxy/v1/backends")).status == 401
    for path in ("/healthz", "/livez", "/readyz"):
        assert (await proxy.ask("GET", path)).status == 200
    for key in ("first-key", "second-key", "wrong-key"):
        assert key not in proxy.output


async def test_open_to_others_with_keys_or_when_told_to(scene: Scene) -> None:
    """0.0.0.0 is fine with inbound keys; `:port` means this machine only, and the log says so."""
    proxy = await scene.serve(VASTPROXY_API_KEYS="first-key", LISTEN_ADDR="0.0.0.0:0")
    assert proxy.url.startswith("http://0.0.0.0:")
    await proxy.__aexit__(None, None, None)
    proxy = await scene.serve(LISTEN_ADDR=":0")
    assert proxy.url.startswith("http://127.0.0.1:")
    assert "only this machine can connect" in (await proxy.says("listening on"))


# -- how it ends ---------------------------------------------------------------------------------------


class Stream:
    """A stream of `tokens` tokens that has begun, and waits in the engine after the third."""

    def __init__(self, proxy: ProxyProcess, scene: Scene) -> None:
        self._client = Client(proxy.port)
        self._scene = scene

    async def __aenter__(self) -> "Stream":
        engine = self._scene.machines[101].engine
        engine.pause_after(3)
        await self._client.__aenter__()
        await self._client.send("POST", CHAT, **chat(stream=True, tokens=6))
        self.head = await self._client.head()
        await asyncio.wait_for(engine.paused.wait(), 10)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.__aexit__(None, None, None)

    async def rest(self) -> Answer:
        return await self._client.rest(self.head)


def timed() -> Callable[[], float]:
    began = time.monotonic()
    return lambda: time.monotonic() - began


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_lets_a_running_stream_end(scene: Scene, number: signal.Signals) -> None:
    """Nothing new is accepted, the stream comes whole, the label is cleared, the exit code is 0."""
    await scene.rent(101)
    proxy = await scene.serve(VASTPROXY_SERVER__SHUTDOWN_GRACE_S="30")
    await scene.api.until(lambda: scene.api.labels() == {101: "proxied"})
    async with Stream(proxy, scene) as stream:
        proxy.signal(number)
        assert "1 requests are running" in await proxy.says("stopping")
        await closed(proxy)
        assert scene.api.labels() == {101: "proxied"}
        scene.machines[101].engine.resume()
        answer = await stream.rest()
    assert answer.complete
    assert answer.body.endswith(b"data: [DONE]\n\n")
    assert answer.body.count(b'"content": "t') == 6
    assert await proxy.wait() == 0
    assert scene.api.labels() == {101: ""}
    sshd = scene.machines[101].sshd  # its session hears of the end by itself
    await asyncio.to_thread(wait_until, lambda: not sshd.children(), limit_s=10, what="no session is left")


async def closed(proxy: ProxyProcess) -> None:
    """Until nobody can connect any more."""
    async with asyncio.timeout(15):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                continue  # it was closed in the middle of the handshake
            writer.close()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_second_signal_ends_at_once(scene: Scene, number: signal.Signals) -> None:
    """It cuts the stream, and does not wait for an API that hangs; the cut is never a clean end."""
    await scene.rent(101)
    proxy = await scene.serve(VASTPROXY_SERVER__SHUTDOWN_GRACE_S="60")
    await scene.api.until(lambda: scene.api.labels() == {101: "proxied"})
    scene.api.faults.always(Fault.HANG)
    async with Stream(proxy, scene) as stream:
        proxy.signal(number)
        await proxy.says("stopping")
        took_s = timed()
        proxy.signal(number)
        answer = await stream.rest()
        assert await proxy.wait() == 0
        assert took_s() < AT_ONCE_S, proxy.output
    assert not answer.complete
    proxy.check_output()


async def test_a_second_signal_during_the_last_calls_ends_at_once(scene: Scene) -> None:
    """While labels are being cleared at an API that hangs, a second signal ends the wait."""
    await scene.rent(101)
    proxy = await scene.serve()
    await scene.api.until(lambda: scene.api.labels() == {101: "proxied"})
    scene.api.faults.always(Fault.HANG)
    proxy.signal(signal.SIGTERM)
    await proxy.says("clearing labels")
    took_s = timed()
    proxy.signal(signal.SIGTERM)
    assert await proxy.wait() == 0
    assert took_s() < AT_ONCE_S, proxy.output
    proxy.check_output()


async def test_a_stream_that_outlasts_the_grace_is_cut(scene: Scene) -> None:
    """After server.shutdown_grace_s the stream breaks, visibly, and the process ends in good order."""
    await scene.rent(101)
    proxy = await scene.serve(VASTPROXY_SERVER__SHUTDOWN_GRACE_S="1")
    await scene.api.until(lambda: scene.api.labels() == {101: "proxied"})
    async with Stream(proxy, scene) as stream:
        took_s = timed()
        proxy.signal(signal.SIGTERM)
        answer = await stream.rest()
        assert 0.9 < took_s() < 1 + AT_ONCE_S
    assert not answer.complete
    assert b"[DONE]" not in answer.body
    assert await proxy.wait() == 0
    assert scene.api.labels() == {101: ""}
    proxy.check_output()


async def test_an_idle_connection_of_a_client_does_not_hold_up_the_end(scene: Scene) -> None:
    """A client that keeps its connection open and asks nothing is not waited for."""
    proxy = await scene.serve(VASTPROXY_SERVER__SHUTDOWN_GRACE_S="60")
    async with Client(proxy.port) as client:
        assert (await client.ask("GET", "/livez")).status == 200
        took_s = timed()
        proxy.signal(signal.SIGTERM)
        assert await proxy.wait() == 0
        assert took_s() < AT_ONCE_S


async def test_dashboards_do_not_hold_up_its_end(scene: Scene) -> None:
    """A reader of the live stream, who would stay for ever, sees its proper end at once."""
    proxy = await scene.serve(VASTPROXY_SERVER__SHUTDOWN_GRACE_S="60")
    async with SseReader(proxy.port, "/vastproxy/v1/live") as reader:
        await reader.until("fleet")
        took_s = timed()
        proxy.signal(signal.SIGTERM)
        while await reader.next() is not None:
            pass
        assert reader.ended
        assert await proxy.wait() == 0
        assert took_s() < AT_ONCE_S, proxy.output
    proxy.check_output()
