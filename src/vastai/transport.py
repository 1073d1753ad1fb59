"""One HTTP exchange with vast.ai: the only place where bytes leave and come in."""

import http.cookiejar
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
import requests.adapters
import requests.auth
import urllib3

from vastproxy import __version__
from vastproxy.vastai.config import VastConfig
from vastproxy.vastai.errors import VastProtocolError, wrap_vast_error
from vastproxy.vastai.reply import Reply

USER_AGENT = f"vastproxy/{__version__}"
#: Enough to see what is wrong; error pages of proxies can be endless.
MAX_ERROR_BYTES = 64 * 1024
#: An instance is about 4 KB of JSON and the old list comes in one piece: thousands of instances fit.
MAX_BODY_BYTES = 32 * 1024 * 1024
#: Limit for a whole answer, in read timeouts: with the default 30 s it is the command line's 120 s.
_TOTAL_READ_TIMEOUTS = 4
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the API.

    `doing` completes "… failed while", `endpoint` is the one whose limit counts. `gone_is_done`: that there
    is no such thing means success, if an earlier try of the same call may have been obeyed.
    """

    name: str
    method: str
    path: str
    endpoint: str
    doing: str
    params: Mapping[str, str] | None = None
    body: Mapping[str, Any] | None = None
    gone_is_done: bool = False


class _Bearer(requests.auth.AuthBase):
    # An auth object and not a header: for a host in ~/.netrc requests would replace the header.
    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class _Anonymous(requests.auth.AuthBase):
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def make_session() -> requests.Session:
    """A session that several threads may use: it keeps connections, but no cookies, and never retries."""
    session = requests.Session()
    session.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    adapter = requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=16, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class Transport:
    """Sends calls with the key, and fetches public files without it. Raises VastError only.

    A session that was handed in stays its owner's: `close` leaves it open.
    """

    def __init__(
        self,
        config: VastConfig,
        *,
        session: requests.Session | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._owned = session is None
        self._session = make_session() if session is None else session
        self._clock = clock

    def send(self, call: Call) -> Reply:
        """The answer to a call, whatever its status; a body of an error is cut at 64 KiB.

        Raises VastUnavailable when there is none, VastProtocolError when it is too big.
        """
        return self._exchange(
            call.method,
            self._config.url + call.path,
            doing=call.doing,
            auth=_Bearer(self._config.api_key),
            params=call.params,
            json=call.body,
            headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        )

    def fetch_public(self, url: str, *, doing: str) -> Reply:
        """The answer to a GET without the key, for files that vast.ai keeps elsewhere."""
        if not url.startswith(("https://", "http://")):
            raise VastProtocolError(
                f"vast.ai named a file that is not on the web while {doing}", "bad_url", False
            )
        return self._exchange("GET", url, doing=doing, auth=_Anonymous(), headers={"User-Agent": USER_AGENT})

    def close(self) -> None:
        """Close idle connections; may be called twice."""
        if self._owned:
            self._session.close()

    def _exchange(self, method: str, url: str, *, doing: str, **arguments: Any) -> Reply:
        started = self._clock()
        try:
            with self._session.request(
                method,
                url,
                timeout=(self._config.connect_timeout_s, self._config.read_timeout_s),
                allow_redirects=False,
                stream=True,
                **arguments,
            ) as response:
                body, cut = self._read(response, started)
                headers = {name.lower(): value for name, value in response.headers.items()}
                reply = Reply(response.status_code, headers, body, self._clock() - started, cut)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # ValueError too: requests lets some of urllib3's refusals of an address through.
            raise wrap_vast_error(error, doing=doing, secrets=(self._config.api_key,)) from error
        if cut and reply.status < 300:
            raise VastProtocolError(
                f"the answer of vast.ai is bigger than {MAX_BODY_BYTES >> 20} MiB while {doing}",
                "too_big",
                False,
                http_status=reply.status,
            )
        return reply

    def _read(self, response: requests.Response, started: float) -> tuple[bytes, bool]:
        limit = MAX_BODY_BYTES if response.status_code < 300 else MAX_ERROR_BYTES
        deadline = started + _TOTAL_READ_TIMEOUTS * self._config.read_timeout_s
        body = bytearray()
        # read1 returns what has come; read would wait for a full chunk and let a trickle last for ever.
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=True):
            body += chunk
            if len(body) > limit:
                return bytes(body[:limit]), True
            if self._clock() > deadline:
                raise TimeoutError("the answer came too slowly")
        return bytes(body), False
