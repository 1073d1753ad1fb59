"""Starts the engines of a run: two ports on the helpers' core.

Small answers come from nginx, the cheapest HTTP server at hand, so that the helpers' core has room for load and sshd;
streams and large bodies from our own (`bench.engine`), which nginx cannot do.
"""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.answers import CHAT, STATIC, chat_answer
from bench.processes import HELPERS_CORE, Program, free_port, listens
from bench.sshd import sbin


@dataclass(frozen=True, slots=True)
class Engines:
    """Two engines, which may be one process."""

    ports: tuple[int, int]
    program: Program


@contextlib.contextmanager
def small_answers(directory: Path) -> Iterator[Engines]:
    """Engines that answer every chat request with the same 500 bytes."""
    ports = (free_port(), free_port())
    config = directory / "engine-nginx.conf"
    config.write_text(static_config(ports, directory))
    argv = [sbin("nginx"), "-c", str(config), "-p", str(directory)]
    with _running(argv, directory, ports) as engines:
        yield engines


@contextlib.contextmanager
def streaming(directory: Path, *, rate: float, answer_bytes: int) -> Iterator[Engines]:
    """Engines that stream `rate` tokens a second, and answer with `answer_bytes` when no stream is wanted."""
    ports = (free_port(), free_port())
    argv = [sys.executable, "-m", "bench.engine", *map(str, ports)]
    argv += ["--rate", str(rate), "--answer-bytes", str(answer_bytes)]
    with _running(argv, directory, ports) as engines:
        yield engines


@contextlib.contextmanager
def _running(argv: list[str], directory: Path, ports: tuple[int, int]) -> Iterator[Engines]:
    log = directory / "engine.log"
    with Program(argv, core=HELPERS_CORE, log=log, ready=lambda: all(map(listens, ports))) as program:
        yield Engines(ports, program)


def static_config(ports: tuple[int, int], directory: Path) -> str:
    """nginx as an engine: every answer is a constant."""
    answers = {**{path: body.decode() for path, body in STATIC.items()}, CHAT: chat_answer().decode()}
    locations = "\n".join(f"  location = {path} {{ return 200 '{body}'; }}" for path, body in answers.items())
    servers = "\n".join(
        f" server {{\n  listen 127.0.0.1:{port} backlog=8192;\n{locations}\n"
        '  location / { return 404 \'{"detail": "Not Found"}\'; }\n }'
        for port in ports
    )
    return f"""
daemon off;
worker_processes 1;
pid {directory}/engine-nginx.pid;
error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
 access_log off;
 default_type application/json;
 keepalive_requests 1000000000;
 keepalive_timeout 60s;
 client_max_body_size 0;
{temp_paths(directory)}
{servers}
}}
"""


def temp_paths(directory: Path) -> str:
    """nginx makes these folders although nothing will lie in them."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "\n".join(f" {kind}_temp_path {directory}/temp-{kind};" for kind in kinds)
