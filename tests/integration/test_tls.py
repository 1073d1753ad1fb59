"""HTTPS: `vastproxy serve` with a certificate that is replaced while it serves."""

import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from cryptography import x509

from tests.helpers.certificates import Made, make_certificate
from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.raw import Answer, Client
from tests.helpers.scene import CHAT, Scene, chat, open_scene, served_by
from tests.helpers.sshd import make_key


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with open_scene(tmp_path) as scene:
        yield scene


class TlsClient(Client):
    """One connection over TLS, which trusts this certificate alone."""

    def __init__(self, proxy: ProxyProcess, made: Made) -> None:
        super().__init__(proxy.port)
        self._context = ssl.create_default_context(cadata=made.cert.decode())
        self._at = proxy.port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(
            "127.0.0.1", self._at, ssl=self._context, server_hostname="localhost", limit=2**16
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()
        await asyncio.sleep(0)

    @property
    def serial(self) -> int:
        found: Any = self.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(found).serial_number


class Stage:
    """A proxy with a certificate, in front of instance 101."""

    def __init__(self, scene: Scene, directory: Path) -> None:
        self.scene = scene
        self.files = (directory / "cert.pem", directory / "key.pem")
        self.made = make_certificate()
        self.made.write(*self.files)
        self.proxy = ProxyProcess(
            directory,
            api=scene.api,
            key_path=scene.key_path,
            env={
                "VASTPROXY_SERVER__TLS_CERT": str(self.files[0]),
                "VASTPROXY_SERVER__TLS_KEY": str(self.files[1]),
            },
        )

    def client(self) -> TlsClient:
        return TlsClient(self.proxy, self.made)

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        async with self.client() as client:
            return await client.ask(method, path, **options)

    async def ready(self) -> None:
        async with asyncio.timeout(15):
            while (await self.ask("GET", "/readyz")).status != 200:
                await asyncio.sleep(0.05)


@pytest.fixture
async def stage(scene: Scene, tmp_path: Path) -> AsyncIterator[Stage]:
    await scene.rent(101)
    stage = Stage(scene, tmp_path)
    async with stage.proxy:
        await stage.ready()
        yield stage


async def test_requests_streams_and_large_bodies_go_over_tls(stage: Stage) -> None:
    assert stage.proxy.url.startswith("https://127.0.0.1:")
    assert f"base_url for clients: {stage.proxy.url}/v1" in stage.proxy.output
    assert "certificate for localhost, 127.0.0.1, valid until" in stage.proxy.output
    async with stage.client() as client:
        assert served_by(await client.ask("POST", CHAT, **chat())) == 101
        answer = await client.ask("POST", CHAT, **chat(stream=True, tokens=20))
        assert answer.complete
        assert answer.body.count(b'"content": "t') == 20
        wanted = chat()
        wanted["body"] = wanted["body"][:-1] + b', "x": "' + b"x" * 5_000_000 + b'"}'
        assert served_by(await client.ask("POST", CHAT, **wanted)) == 101
    assert "PRIVATE" not in stage.proxy.output


async def test_a_refusal_arrives_in_the_middle_of_an_upload(stage: Stage) -> None:
    """What is still coming is let in and thrown away, or the answer would be lost by a reset."""
    for _ in range(3):
        async with stage.client() as client:
            await client.send("POST", "/flush_cache", {"content-length": str(8_000_000)})
            for _ in range(80):
                client.writer.write(b"x" * 100_000)
                await asyncio.sleep(0)
            async with asyncio.timeout(10):
                answer = await client.rest(await client.head())
            assert (answer.status, answer.complete) == (403, True)


async def test_a_certificate_is_replaced_under_a_running_stream(stage: Stage) -> None:
    """The stream comes to its end, the connection takes another request; who connects anew gets the new one."""
    engine = stage.scene.machines[101].engine
    old, new = stage.made, make_certificate()
    async with stage.client() as client:
        engine.pause_after(3)
        await client.send("POST", CHAT, **chat(stream=True, tokens=6))
        head = await client.head()
        await asyncio.wait_for(engine.paused.wait(), 10)
        new.write(*stage.files)
        await stage.proxy.says("TLS certificate replaced: certificate for localhost")
        stage.made = new
        async with stage.client() as other:
            assert other.serial == new.serial
            assert (await other.ask("GET", "/livez")).status == 200
        engine.resume()
        answer = await client.rest(head)
        assert answer.complete
        assert answer.body.endswith(b"data: [DONE]\n\n")
        assert client.serial == old.serial


def replace(path: Path, content: bytes) -> None:
    """At once, so that nobody sees a part of it."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    os.replace(fresh, path)


async def test_files_that_do_not_fit_are_told_of_once_and_the_old_certificate_goes_on(stage: Stage) -> None:
    new = make_certificate()
    replace(stage.files[0], new.cert)
    await stage.proxy.says("the TLS certificate was not replaced, the one before goes on: server.tls_key")
    assert (await stage.ask("GET", "/livez")).status == 200
    replace(stage.files[1], new.key)
    await stage.proxy.says("TLS certificate replaced")
    stage.made = new
    assert (await stage.ask("GET", "/livez")).status == 200
    assert len(stage.proxy.lines("was not replaced")) == 1


async def test_whoever_speaks_no_tls_is_shown_the_door(stage: Stage) -> None:
    """Plain HTTP, noise, and the beginning of a handshake: each ends, no line is written, others are served."""
    for sent in (
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x00" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.proxy.port)
        writer.write(sent)
        writer.write_eof()
        async with asyncio.timeout(15):
            assert b"HTTP" not in await reader.read()
        writer.close()
        await writer.wait_closed()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("127.0.0.1", stage.proxy.port, ssl=context, server_hostname="localhost")
    assert (await stage.ask("GET", "/livez")).status == 200
    await stage.ask("POST", CHAT, **chat())
    await stage.proxy.says("/v1/chat/completions")  # so what came before has been written
    assert [line for line in stage.proxy.output.splitlines() if " info " not in line] == []


async def test_a_client_that_leaves_is_noticed(stage: Stage) -> None:
    """Its engine is let go, as over plain HTTP."""
    engine = stage.scene.machines[101].engine
    async with stage.client() as client:
        engine.pause_after(3)
        await client.send("POST", CHAT, **chat(stream=True, tokens=6))
        await client.head()
        await asyncio.wait_for(engine.paused.wait(), 10)
    await stage.proxy.says(" status=")
    async with asyncio.timeout(15):
        while not stage.proxy.lines("/v1/chat/completions"):
            await asyncio.sleep(0.02)
    engine.resume()


async def test_an_idle_connection_does_not_hold_up_the_end(stage: Stage) -> None:
    async with stage.client() as client:
        assert (await client.ask("GET", "/livez")).status == 200
        stage.proxy.signal(signal.SIGTERM)
        assert await stage.proxy.wait(limit_s=8) == 0


async def test_a_certificate_that_cannot_be_used_is_one_line_at_the_start(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate().write(cert, key)
    os.unlink(key)
    proxy = ProxyProcess(
        tmp_path,
        key_path=make_key(tmp_path / "id_ed25519"),
        env={"VAST_API_KEY": "secret-api-key", "VAST_URL": "http://127.0.0.1:9"},
        arguments=("serve", "--tls-cert", str(cert), "--tls-key", str(key)),
        secrets=["secret-api-key"],
    )
    assert await proxy.run() == 2
    assert proxy.stderr == f"vastproxy: server.tls_key: cannot read {key}: no such file or directory\n"
