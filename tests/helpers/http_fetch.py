"""`Fetch` over plain loopback TCP, by the standard library's HTTP client: for tests without a tunnel."""

import asyncio
import http.client
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from vastproxy.services.backends.fetch import NO_HEADERS, ProbeResponse
from vastproxy.services.errors import (
    BackendProtocolError,
    BackendTimeout,
    ChannelRefused,
    ResponseInterrupted,
)

_MAX_BODY_BYTES = 1 << 20


async def fetch(
    port: int,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] = NO_HEADERS,
    body: bytes = b"",
    timeout_s: float,
) -> ProbeResponse:
    """One request on a connection of its own, in a thread that ends with it."""

    def ask() -> ProbeResponse:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        try:
            connection.request(method, path, body or None, dict(headers))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return ProbeResponse(answer.status, names, answer.read(_MAX_BODY_BYTES))
        except ConnectionRefusedError as error:
            raise ChannelRefused(f"port {port} is closed") from error
        except TimeoutError as error:
            raise BackendTimeout(f"no answer within {timeout_s:g} s", phase="headers") from error
        except http.client.RemoteDisconnected as error:
            raise ResponseInterrupted("it closed the connection", received=False) from error
        except (http.client.HTTPException, ConnectionError) as error:
            raise BackendProtocolError("it does not speak HTTP") from error
        finally:
            connection.close()

    thread = ThreadPoolExecutor(1)
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, ask)
    finally:
        thread.shutdown(wait=False)
