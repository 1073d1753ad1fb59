"""One run with every kind of secret there is, and everything that was written in it: none of them is in any of it."""

import contextlib
import json
import signal
from pathlib import Path

import pytest

from tests.helpers.proxy_process import ProxyProcess
from tests.helpers.raw import Answer, Client
from tests.helpers.redis_server import RedisServer
from tests.helpers.scene import CHAT, Scene, open_scene
from tests.helpers.ssh_agent import output

PASSPHRASE = "opens-the-ssh-key"
PLAIN_KEY = "inbound-key-of-the-environment"
SIGNING = "whsec-signs-events"
EVENT_TOKEN = "token-of-onstart-scripts"
COOKIE = "crumb-of-a-cookie"
PROMPT = "words of a prompt"
QUERY = "key-in-the-query"
WRONG = "wrong-inbound-key"
OTHER = "basic-words-of-a-client"
USER = "name-of-a-user"
#: Our own pages and what they need.
PAGES = (
    "/healthz",
    "/livez",
    "/readyz",
    "/metrics",
    "/v1/models",
    "/vastproxy/v1/backends",
    "/vastproxy/v1/requests?limit=200",
    "/vastproxy/v1/process",
    "/vastproxy/nothing",
    "/webhooks/vastai",
)


def _chat(*, stream: bool = False, model: str = "m") -> bytes:
    wanted = {"model": model, "stream": stream, "max_tokens": 4, "user": USER, "api_key": QUERY}
    return json.dumps({**wanted, "messages": [{"role": "user", "content": PROMPT}]}).encode()


class Run:
    """A proxy that is asked in every way, and what it said, by where it was said."""

    def __init__(self, scene: Scene, proxy: ProxyProcess) -> None:
        self.scene = scene
        self.proxy = proxy
        self.said: dict[str, bytes] = {}

    def hear(self, where: str, data: bytes) -> None:
        self.said[where] = self.said.get(where, b"") + data + b"\n"

    def answered(self, where: str, answer: Answer) -> None:
        self.hear(where, repr(answer.headers).encode())
        if answer.status >= 400:
            self.hear(f"{where} body", answer.body)

    async def ask_engines(self, keys: list[str]) -> None:
        """What is served, and what is refused or fails for each reason there is."""
        for key in keys:
            headers = {
                "authorization": f"Bearer {key}",
                "cookie": f"session={COOKIE}",
                "proxy-authorization": f"Basic {OTHER}",
                "x-api-key": key,
                "api-key": OTHER,
                "content-type": "application/json",
            }
            for path, body in (
                (f"{CHAT}?api_key={QUERY}", _chat()),
                (f"{CHAT}?api_key={QUERY}", _chat(stream=True)),
                (CHAT, _chat(model="no-such-model")),
                (CHAT, _chat()[:-5]),
                (f"/flush_cache?key={QUERY}", b""),
                (f"/nothing?key={QUERY}", b""),
            ):
                for more in (
                    {},
                    {"x-vastproxy-instance": "101"},
                    {"expect": "the impossible"},
                    {"origin": "https://evil"},
                ):
                    with contextlib.suppress(ConnectionError):
                        self.answered(path, await self.proxy.ask("POST", path, {**headers, **more}, body))

    async def break_streams(self, key: str) -> None:
        """The engine dies in the middle, and the client does."""
        engine = self.scene.machines[101].engine
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        engine.die_after_tokens = 1
        self.hear(
            "broken",
            repr((await self.proxy.ask("POST", CHAT, headers, _chat(stream=True))).headers).encode(),
        )
        engine.die_after_tokens = None
        async with Client(self.proxy.port) as client:
            await client.send("POST", CHAT, headers, _chat(stream=True))

    async def look(self, keys: list[str]) -> None:
        """Every page of ours, with each key and with none."""
        for key in (*keys, None):
            headers = {"cookie": f"session={COOKIE}"} | ({"authorization": f"Bearer {key}"} if key else {})
            for page in PAGES:
                for method in ("GET", "POST"):
                    answer = await self.proxy.ask(method, page, headers)
                    self.hear(page, repr(answer.headers).encode() + answer.body)

    async def look_by_command(self, directory: Path, env: dict[str, str], request_id: str) -> None:
        """What the commands print that ask a running proxy, or read the settings."""
        env = {**env, "VASTPROXY_SERVER__LISTEN": f"127.0.0.1:{self.proxy.port}"}
        env["LISTEN_ADDR"] = f"127.0.0.1:{self.proxy.port}"
        commands = (
            ("status",),
            ("status", "--json"),
            ("explain", request_id),
            ("explain", request_id, "--json"),
            ("instances",),
            ("instances", "--json"),
            ("config", "show"),
            ("config", "check"),
            ("keys", "list"),
        )
        for command in commands:
            ran = ProxyProcess(
                directory, api=self.scene.api, key_path=self.scene.key_path, env=env, arguments=command
            )
            await ran.run()
            assert "Traceback" not in ran.output, command
            self.hear(" ".join(command), ran.output.encode())


def _events(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "content-type": "application/json"}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.timeout(180)
async def test_no_secret_is_in_anything_that_was_written(tmp_path: Path, form: str) -> None:
    """At the most talkative level: output, both forms of logs, pages, metrics, errors, headers of answers, commands,
    the state directory and Redis."""
    async with contextlib.AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer(tmp_path))
        scene = await stack.enter_async_context(open_scene(tmp_path))
        output("ssh-keygen", "-q", "-p", "-N", PASSPHRASE, "-f", str(scene.key_path))
        await scene.rent(101, 102)
        env = {
            "VASTPROXY_LOGGING__LEVEL": "debug",
            "VASTPROXY_LOGGING__FORMAT": form,
            "VASTPROXY_API_KEYS": PLAIN_KEY,
            "VASTPROXY_TUNNELS__KEY_PASSPHRASE": "env:WORDS",
            "WORDS": PASSPHRASE,
            "VASTPROXY_WEBHOOKS__SECRET": SIGNING,
            "VASTPROXY_WEBHOOKS__TOKEN": EVENT_TOKEN,
            "VASTPROXY_CACHE__BACKEND": "redis",
            "VASTPROXY_CACHE__URL": redis.url,
        }
        made = ProxyProcess(tmp_path, arguments=("keys", "create", "web", "--inference", "--admin"))
        assert await made.run() == 0
        web = made.stdout.strip()
        proxy = ProxyProcess(tmp_path, api=scene.api, key_path=scene.key_path, env=env)
        await stack.enter_async_context(proxy)
        await proxy.wait_healthy(2)
        run = Run(scene, proxy)
        await run.ask_engines([web, PLAIN_KEY, WRONG])
        await run.break_streams(web)
        for token in (EVENT_TOKEN, WRONG):
            event = json.dumps({"type": "instance_online", "instance_id": 101, "note": PROMPT}).encode()
            run.answered("event", await proxy.ask("POST", "/webhooks/vastai", _events(token), event))
        signed = {"x-vast-signature": SIGNING, "x-vast-timestamp": "1", "content-type": "application/json"}
        run.answered("signed", await proxy.ask("POST", "/webhooks/vastai", signed, b"{}"))
        served = await proxy.ask("POST", CHAT, _events(web), _chat())
        await run.look([web, PLAIN_KEY, WRONG])
        await run.look_by_command(tmp_path, env, served.header("x-request-id") or "")
        for name in redis.names():
            run.hear(f"redis {name}", redis.command("GET", name) + redis.command("DUMP", name))
        proxy.signal(signal.SIGTERM)
        assert await proxy.wait() == 0
        run.hear("stdout", proxy.stdout.encode())
        run.hear("stderr", proxy.stderr.encode())
        for path, data in proxy.kept_files().items():
            run.hear(f"file {path.name}", data)
    secrets = [web, PLAIN_KEY, PASSPHRASE, SIGNING, EVENT_TOKEN, COOKIE, PROMPT, QUERY, WRONG, OTHER, USER]
    secrets += [scene.api.account.api_key, *(machine.token for machine in scene.machines.values())]
    assert served.status == 200
    assert {name for name in run.said if name.startswith(("redis ", "file "))}, "nothing was kept at all"
    for where, data in run.said.items():
        for secret in secrets:
            assert secret.encode() not in data, (secret, where)
    asked = [repr(each.headers) for machine in scene.machines.values() for each in machine.engine.requests]
    assert len(asked) > 20
    for told in asked:  # whoever rents out a machine is not to be trusted with what its clients are known by
        assert not [secret for secret in (web, PLAIN_KEY, WRONG, COOKIE, OTHER) if secret in told]
    lines = [line for line in (proxy.stdout + proxy.stderr).splitlines() if "status" in line]
    assert len(lines) > 20, "the log was silent"
