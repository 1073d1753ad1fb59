"""The setup page, typed as it stands: from an empty account to the first token, and behind nginx."""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.helpers.certificates import make_certificate
from tests.helpers.nginx import nginx_binary
from tests.helpers.ports import free_port
from tests.helpers.processes import Process
from tests.helpers.typed import quoted, typed
from vastproxy.simulator.simulation import Simulation

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/SETUP.md").read_text()
VASTAI = Path(sys.executable).with_name("vastai")
LIMIT_S = 120.0

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(not VASTAI.exists(), reason="the official vastai package is not installed"),
]

#: `vastproxy serve`, as somebody starts it in one terminal and goes on in another.
_SERVING = """
{serve} > "$HOME/serve.log" 2>&1 &
SERVER=$!
trap 'kill -TERM $SERVER; wait $SERVER' EXIT
for _ in $(seq 300); do curl -fs http://{address}/readyz > "$HOME/ready" && break; sleep 0.1; done
"""


def script_of(commands: Sequence[str], *, key: str, address: str) -> str:
    """One script that types them and stops at the first that fails. Each is shown before what it writes."""
    lines = ["set -eu -o pipefail"]
    for command in commands:
        here = command.replace("YOUR_KEY", key).replace("127.0.0.1:8080", address)
        lines.append(f"printf '%s\\n' {quoted('$ ' + command)}")
        lines.append(_SERVING.format(serve=here, address=address) if command == "vastproxy serve" else here)
    return "\n".join(lines) + "\n"


def home_of(directory: Path, **variables: str) -> dict[str, str]:
    """An environment in which `vastai` and `vastproxy` can be typed, and nothing else of ours is set."""
    tools = directory / "tools"
    tools.mkdir()
    for name, command in {
        "vastai": f'"{VASTAI}" "$@"',
        "vastproxy": f'"{sys.executable}" -m vastproxy "$@"',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\nexec {command}\n")
        (tools / name).chmod(0o755)
    (directory / ".ssh").mkdir(mode=0o700)
    kept = {name: value for name, value in os.environ.items() if name.startswith(("COVERAGE_", "PYTHON"))}
    path = f"{tools}:{os.environ.get('PATH', os.defpath)}"
    return {**kept, "PATH": path, "HOME": str(directory), "VASTAI_NO_UPDATE_CHECK": "1", **variables}


async def run(script: str, env: Mapping[str, str], directory: Path) -> str:
    """What the script writes. It must end well; whatever it has started is ended with it."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        script,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(env),
        cwd=directory,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            output, _ = await process.communicate()
    except BaseException:
        os.killpg(process.pid, 9)
        await process.wait()
        raise
    text = output.decode()
    log = directory / "serve.log"
    assert process.returncode == 0, f"{text}\n{log.read_text() if log.exists() else ''}"
    return text


async def test_from_an_empty_account_to_the_first_token(tmp_path: Path) -> None:
    """Every command of the page that can be tried without renting: with vast.ai's own command line."""
    commands = typed(PAGE)
    assert "vastproxy serve" in commands
    assert sum(command.startswith("vastai ") for command in commands) >= 5
    address = f"127.0.0.1:{free_port()}"
    async with Simulation(instances=0, rate_limits=False) as simulation:
        env = home_of(tmp_path, VAST_URL=simulation.url, LISTEN_ADDR=address)
        output = await run(script_of(commands, key=simulation.api_key, address=address), env, tmp_path)
        assert [machine.engine.model for machine in simulation.instances] == ["Qwen/Qwen3-8B"]
    assert "1 instance, $" in output
    assert '"account":{"credit_dollars":37.42' in output
    assert "data: [DONE]" in output
    assert "backends: 1 in total (1 healthy)" in output
    assert "healthy → removing: the proxy is stopping" in (tmp_path / "serve.log").read_text()


def test_every_block_that_is_said_to_be_tried_is() -> None:
    """Each ✓ of the page is followed by a block that a test runs."""
    tried = PAGE.count("<!-- tried")
    assert tried == len(re.findall(r"✓\n\n<!-- tried", PAGE)) >= 6


def nginx_config(page: str, directory: Path, *, port: int, address: str) -> str:
    """The block of the page in a whole configuration, with another port, address and certificate."""
    found = re.search(r"(?ms)^<!-- tried: nginx -->\n```nginx\n(.*?)^```", page)
    assert found is not None
    server = found[1].replace("listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;")
    server = server.replace("127.0.0.1:8080", address)
    server = re.sub(r"/etc/letsencrypt/live/[^/]+", str(directory), server)
    paths = "\n".join(
        f"{kind}_temp_path {directory}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"daemon off;\nmaster_process off;\npid {directory}/nginx.pid;\nerror_log stderr info;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{paths}\n{server}\n}}\n"
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_nginx_of_the_page_streams_and_keeps_the_metrics(tmp_path: Path) -> None:
    address, port = f"127.0.0.1:{free_port()}", free_port()
    certificate = make_certificate("llm.example.com")
    certificate.write(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    config = tmp_path / "nginx.conf"
    config.write_text(nginx_config(PAGE, tmp_path, port=port, address=address))
    argv = [nginx_binary(), "-e", "stderr", "-p", str(tmp_path), "-c", str(config)]
    checked = await asyncio.to_thread(subprocess.run, [*argv, "-t"], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr.decode()
    ask = f"curl -sS --cacert fullchain.pem --resolve llm.example.com:{port}:127.0.0.1"
    url = f"https://llm.example.com:{port}"
    messages = '[{"role": "user", "content": "Hi"}]'
    body = '{"model": "Qwen/Qwen3-8B", "stream": true, "max_tokens": 4, "messages": ' + messages + "}"
    script = "\n".join(
        [
            "set -eu -o pipefail",
            _SERVING.format(serve="vastproxy serve", address=address),
            f"{ask} -fN {url}/v1/chat/completions -H 'Content-Type: application/json' -d '{body}'",
            f"{ask} -o metrics -w 'metrics %{{http_code}}\\n' {url}/metrics",
            f"{ask} -f {url}/healthz",
        ]
    )
    nginx = Process(argv, log=tmp_path / "nginx.log", ready=lambda: _listens(port))
    async with Simulation(instances=1, rate_limits=False) as simulation:
        env = home_of(
            tmp_path,
            VAST_URL=simulation.url,
            VAST_API_KEY=simulation.api_key,
            SSH_KEY_PATH=str(simulation.ssh_key_path),
            LISTEN_ADDR=address,
            VASTPROXY_SERVER__ALLOWED_HOSTS="llm.example.com",
        )
        await asyncio.to_thread(nginx.start)
        try:
            output = await run(script, env, tmp_path)
        finally:
            await asyncio.to_thread(nginx.terminate)
    assert "data: [DONE]" in output
    assert "metrics 403" in output
    assert '"status":"healthy"' in output


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
