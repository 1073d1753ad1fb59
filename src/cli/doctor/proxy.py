"""The proxy that runs, if there is one: does it answer, in which version, and does it listen to us?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vastproxy import __version__
from vastproxy.cli.asking import NobodyThere, NoProxyThere, asking
from vastproxy.cli.render import clean, duration
from vastproxy.services.diagnosis.check import Check, Verdict

#: A proxy answers from memory; one that is asked by a doctor may be ill.
READ_TIMEOUT_S = 5.0
_TITLE = "proxy"


@dataclass(frozen=True, slots=True)
class Answered:
    """What a proxy said: to /healthz, and with which status to a request that takes admin rights."""

    health: Mapping[str, Any]
    admin_status: int


def ask(base: str, key: str | None, *, read_timeout_s: float = READ_TIMEOUT_S) -> Answered | NoProxyThere:
    """Ask the proxy at `base`. Blocking."""
    try:
        with asking(base, key=key, read_timeout_s=read_timeout_s) as proxy:
            health = proxy.object(proxy.get("/healthz"))
            return Answered(health, proxy.get("/vastproxy/v1/backends").status_code)
    except NoProxyThere as error:
        return error


def checks(base: str, answered: Answered | NoProxyThere, *, version: str = __version__) -> tuple[Check, ...]:
    """What that means. Pure."""
    if isinstance(answered, NobodyThere):
        detail = f"none runs at {base}; `vastproxy serve` starts one"
        return (Check("proxy", _TITLE, Verdict.SKIP, detail),)
    if isinstance(answered, NoProxyThere):
        fix = "another program may have that port: choose one with server.listen (LISTEN_ADDR)"
        return (Check("proxy", _TITLE, Verdict.FAIL, str(answered), fix),)
    return (_health(base, answered.health), _version(answered.health, version), _key(answered.admin_status))


def _health(base: str, health: Mapping[str, Any]) -> Check:
    status = clean(str(health.get("status")))
    uptime, backends = health.get("uptime_s"), health.get("backends")
    counts = backends if isinstance(backends, Mapping) else {}
    detail = f"{base} is {status}"
    if isinstance(uptime, (int, float)):
        detail += f", up {duration(uptime)}"
    if "total" in counts:
        detail += (
            f", {clean(str(counts.get('healthy', 0)))} of {clean(str(counts['total']))} backends can serve"
        )
    if status == "healthy":
        return Check("proxy", _TITLE, Verdict.OK, detail)
    if health.get("reason"):
        detail += f": {clean(str(health['reason']))}"
    fix = "the lines of the instances say why; `vastproxy status` shows it as the proxy sees it"
    return Check("proxy", _TITLE, Verdict.WARN if status == "degraded" else Verdict.FAIL, detail, fix)


def _version(health: Mapping[str, Any], ours: str) -> Check:
    theirs = clean(str(health.get("version") or "unknown"))
    if theirs == ours:
        return Check("proxy_version", "its version", Verdict.OK, f"{theirs}, as this command")
    detail = f"the proxy is {theirs}, this command {ours}"
    fix = "restart the proxy after an update, or use the command that came with it"
    return Check("proxy_version", "its version", Verdict.WARN, detail, fix)


def _key(status: int) -> Check:
    title = "its key"
    if status == 200:
        return Check("proxy_key", title, Verdict.OK, "it lets us look at its backends")
    if status in (401, 403):
        fix = "`VASTPROXY_API_KEYS=vp-… vastproxy …` with a key from `vastproxy keys create ops --admin`"
        detail = f"it wants a key with admin rights (HTTP {status})"
        return Check("proxy_key", title, Verdict.WARN, detail, fix)
    fix = "is it another version? Its log says more"
    return Check("proxy_key", title, Verdict.WARN, f"it does not list its backends (HTTP {status})", fix)
