"""The settings of who may reach the listening side and how: keys, TLS, browsers."""

import re
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from vastproxy.settings.expected import Expected
from vastproxy.settings.section import Section

#: Pages from the web, and those that come with a program or an extension of a browser, which have schemes of their own.
_ORIGIN = re.compile(
    r"(?:https?|app|tauri|capacitor|vscode-webview|(?:chrome|moz|safari-web)-extension)"
    r"://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?"
)
_HOST = re.compile(r"\*|\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9._-]*[a-z0-9])?")


def checked_origin(text: str) -> str:
    """An origin as browsers write it, in lower case, or `*`. Raises ValueError, for use as a validator."""
    origin = text.strip().lower().rstrip("/")
    if origin != "*" and not _ORIGIN.fullmatch(origin):
        raise ValueError(f"expected an origin such as https://chat.example.org, or *; got {text[:60]!r}")
    return origin


Origin = Annotated[
    str, AfterValidator(checked_origin), Expected("an origin such as https://chat.example.org, or *")
]


def checked_host(text: str) -> str:
    """A host name or address as a URL has it, without a port, in lower case, or `*`. Raises ValueError, for use as a
    validator."""
    host = text.strip().lower().rstrip(".")
    if ":" in host.strip("[]") and not host.startswith("["):
        host = f"[{host}]" if host.count(":") > 1 else host
    if not _HOST.fullmatch(host):
        raise ValueError(f"expected a host without a port such as gpu.example.org, or *; got {text[:60]!r}")
    return host


HostName = Annotated[
    str, AfterValidator(checked_host), Expected("a host without a port such as gpu.example.org, or *")
]


class Exposure(Section):
    """What the listening side needs where others can reach it."""

    keys_file: str | None = None
    """Where `vastproxy keys` keeps the keys of clients. Default: keys.json beside the pinned host keys, in
    tunnels.state_dir. A running proxy follows its changes; once it is there, a key is asked for."""
    tls_cert: str | None = None
    """Certificate for HTTPS (--tls-cert): a PEM file, intermediate certificates after the server's own. Read again when
    it changes."""
    tls_key: str | None = None
    """Its private key (--tls-key), PEM, without a passphrase. It may stand in the file of tls_cert too."""
    hsts_max_age_s: Annotated[int, Field(ge=0, le=63_072_000)] = 0
    """Tell browsers over HTTPS to use nothing else for this host, for so long (Strict-Transport-Security). 0: say
    nothing."""
    cors_origins: tuple[Origin, ...] = ()
    """Web pages of these origins may ask from a browser (CORS). `*`: any page. None: browsers refuse them all, and
    where nobody needs a key, so does the proxy."""
    allowed_hosts: tuple[HostName, ...] = ()
    """More names by which a loopback address may be asked while nobody needs a key, such as that of a web server before
    it; `*`: any. Others than this machine's own are refused, because a web page can give itself one (DNS rebinding)."""

    @model_validator(mode="after")
    def _a_key_has_a_certificate(self) -> Self:
        if self.tls_key is not None and self.tls_cert is None:
            raise ValueError("expected tls_cert where tls_key is set")
        return self
