"""A real nginx as a reverse proxy for tests, the one that everybody's requests go through today."""

import functools
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.helpers.ports import free_port
from tests.helpers.processes import Process, ProcessFailed

_PORT_TRIES = 5
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/local/nginx/sbin")

_CONFIG = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr info;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    server_tokens off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    large_client_header_buffers 8 32k;
    client_max_body_size {max_body_bytes};
    keepalive_requests 1000000;
    lingering_timeout 50ms;
    upstream engine {{ server 127.0.0.1:{upstream_port} max_fails=0; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /livez {{ return 200 "ok"; }}
        location / {{
            proxy_pass http://engine;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_next_upstream off;
            proxy_intercept_errors off;
        }}
    }}
}}
"""


@functools.cache
def nginx_binary() -> str:
    """The full path of nginx. Raises ProcessFailed where it is not installed."""
    found = shutil.which("nginx", path=os.pathsep.join((*_SBIN, os.environ.get("PATH", ""))))
    if found is None:
        raise ProcessFailed("nginx is not installed; on Debian: apt-get install nginx-light")
    return found


@functools.cache
def nginx_version() -> tuple[int, int]:
    """Such as (1, 22)."""
    answer = subprocess.run([nginx_binary(), "-v"], capture_output=True, text=True, check=False)
    found = re.search(r"nginx/(\d+)\.(\d+)", answer.stderr + answer.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class Nginx:
    """nginx on 127.0.0.1 in front of an engine on `upstream_port`, used as a context manager.

    It forwards everything but `/livez`, streams bodies both ways, and keeps connections to the engine, as
    vastproxy does.
    """

    def __init__(self, directory: Path, upstream_port: int, *, max_body_bytes: int = 64 << 20) -> None:
        self._directory = directory
        self._upstream_port = upstream_port
        self._max_body_bytes = max_body_bytes
        self._process: Process | None = None
        self.port = 0

    @property
    def log(self) -> str:
        """Its error log."""
        return "" if self._process is None else self._process.stderr

    def __enter__(self) -> Self:
        for left in reversed(range(_PORT_TRIES)):
            port = free_port()
            try:
                self._process = self._launch(port)
            except ProcessFailed:
                if not left:
                    raise
            else:
                self.port = port
                break
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()

    def _launch(self, port: int) -> Process:
        config = self._directory / "nginx.conf"
        config.write_text(
            _CONFIG.format(
                directory=self._directory,
                port=port,
                upstream_port=self._upstream_port,
                max_body_bytes=self._max_body_bytes,
            )
        )
        argv = [nginx_binary(), "-e", "stderr", "-p", str(self._directory), "-c", str(config)]
        return Process(argv, log=self._directory / "nginx.log", ready=lambda: _answers(port)).start()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            sock.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
            return sock.recv(8) == b"HTTP/1.1"
    except OSError:
        return False
