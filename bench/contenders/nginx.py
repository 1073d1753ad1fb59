"""nginx with one worker: before the engines themselves, or before local ports that OpenSSH clients forward."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.contenders.base import CLIENT_KEY, Running
from bench.engines import Engines, temp_paths
from bench.processes import CONTENDER_CORE, Program, free_port, listens
from bench.sshd import Sshd, make_key, run_sshd, sbin


@contextlib.contextmanager
def start_plain(directory: Path, engines: Engines) -> Iterator[Running]:
    """Without SSH."""
    with _nginx(directory, engines.ports) as (url, program, log):
        yield Running(url, (program,), access_log=log)


@contextlib.contextmanager
def start_ssh(directory: Path, engines: Engines, *, command: bool = False) -> Iterator[Running]:
    """Over OpenSSH, one client for each backend.

    With `command` a remote command is held open: sshd switches Nagle's algorithm off only for connections that
    asked for one, and `ssh -N` does not (OpenSSH 9.2).
    """
    key = make_key(directory / "id_ed25519")
    with contextlib.ExitStack() as stack:
        locals_, clients = [], []
        for number, port in enumerate(engines.ports):
            sshd = stack.enter_context(run_sshd(directory / f"instance-{number}", key))
            local = free_port()
            argv = _ssh_argv(directory, sshd, key, local, port, command=command)
            log = directory / f"ssh-{number}.log"
            ready = partial(listens, local)
            client = Program(argv, core=CONTENDER_CORE, log=log, env=_environment(directory), ready=ready)
            clients.append(stack.enter_context(client))
            locals_.append(local)
        url, program, log = stack.enter_context(_nginx(directory, locals_))
        yield Running(url, (program, *clients), access_log=log)


@contextlib.contextmanager
def start_ssh_command(directory: Path, engines: Engines) -> Iterator[Running]:
    """Over OpenSSH, with a remote command held open."""
    with start_ssh(directory, engines, command=True) as running:
        yield running


def _environment(directory: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(directory)}


def _ssh_argv(directory: Path, sshd: Sshd, key: Path, local: int, remote: int, *, command: bool) -> list[str]:
    options = {
        "Ciphers": "aes128-gcm@openssh.com",
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": str(directory / "known_hosts"),
        "ExitOnForwardFailure": "yes",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "2",
        "LogLevel": "ERROR",
    }
    argv = ["ssh", "-F", "/dev/null", "-T", "-i", str(key), "-p", str(sshd.port)]
    argv += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    argv += ["-L", f"127.0.0.1:{local}:127.0.0.1:{remote}"]
    if not command:
        argv.append("-N")
    argv.append(f"{sshd.username}@127.0.0.1")
    return [*argv, "exec sleep 86400"] if command else argv


@contextlib.contextmanager
def _nginx(directory: Path, backends: Sequence[int]) -> Iterator[tuple[str, Program, Path]]:
    port = free_port()
    log = directory / "access.log"
    config = directory / "nginx.conf"
    config.write_text(proxy_config(port, backends, directory, log))
    argv = [sbin("nginx"), "-c", str(config), "-p", str(directory)]
    output = directory / "nginx.log"
    with Program(argv, core=CONTENDER_CORE, log=output, ready=lambda: listens(port)) as program:
        yield f"http://127.0.0.1:{port}", program, log


def proxy_config(port: int, backends: Sequence[int], directory: Path, log: Path) -> str:
    """nginx set up as one would before LLM engines: keep-alive both ways, no buffering, bearer checked, access log."""
    servers = "\n".join(f"  server 127.0.0.1:{backend};" for backend in backends)
    return f"""
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 32768; }}
http {{
 map_hash_bucket_size 128;
 access_log {log} combined buffer=64k flush=1s;
 keepalive_requests 1000000000;
 keepalive_timeout 75s;
 client_max_body_size 64m;
 client_body_buffer_size 64k;
 tcp_nodelay on;
{temp_paths(directory)}
 map $http_authorization $allowed {{
  default 0;
  "Bearer {CLIENT_KEY}" 1;
 }}
 upstream engines {{
{servers}
  keepalive 256;
  keepalive_requests 1000000000;
 }}
 server {{
  listen 127.0.0.1:{port} backlog=4096;
  location / {{
   if ($allowed = 0) {{ return 401; }}
   proxy_pass http://engines;
   proxy_http_version 1.1;
   proxy_set_header Connection "";
   proxy_buffering off;
   proxy_buffer_size 16k;
   proxy_buffers 8 16k;
   proxy_request_buffering off;
   proxy_read_timeout 600s;
  }}
 }}
}}
"""
