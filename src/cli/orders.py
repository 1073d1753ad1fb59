"""How commands give a running proxy an order, and what they make of its answer."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import requests

from vastproxy.cli.asking import Asker
from vastproxy.cli.render import clean
from vastproxy.errors import VastproxyError


class NotDone(VastproxyError):
    """The proxy has not done what it was told to. `http_status` and `code` are those of its answer."""

    def __init__(self, message: str, *, http_status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.http_status = http_status
        self.code = code


class NotConfirmed(VastproxyError):
    """Nobody is there who could confirm what cannot be undone."""

    exit_code = 2


def order(proxy: Asker, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """POST an order. Returns what the proxy says when it is done. Raises NoProxyThere, NotDone."""
    return understood(proxy, proxy.post(path, json.dumps(body or {}).encode()))


def asked(proxy: Asker, path: str) -> dict[str, Any]:
    """GET what only those who may give orders are told. Raises NoProxyThere, NotDone."""
    return understood(proxy, proxy.get(path))


def understood(proxy: Asker, answer: requests.Response) -> dict[str, Any]:
    """The document of a good answer. Raises NoProxyThere for what no proxy sends, NotDone for a refusal."""
    content = proxy.object(answer)
    status = answer.status_code
    if status == 200:
        return content
    error = content.get("error")
    told = error if isinstance(error, dict) else {}
    code = str(told.get("code") or "")
    if status == 401 or code == "insufficient_permissions":
        text = (
            f"{proxy.base} takes orders only from holders of a key with admin rights: set VASTPROXY_API_KEYS"
        )
        raise NotDone(text, http_status=status, code=code)
    why = clean(str(told.get("message") or f"HTTP {status}"))
    raise NotDone(f"{proxy.base}: {why[0].lower()}{why[1:].rstrip('.')}", http_status=status, code=code)


def rows(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a list of a document; none where a proxy of another version has something else there."""
    found = content.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def somebody_types() -> bool:
    """Is standard input a terminal?"""
    return sys.stdin is not None and sys.stdin.isatty()
