"""What the dashboard has a proxy do. Each call blocks, and answers with a line for whoever gave the order."""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from vastproxy.cli.asking import Asker, asking
from vastproxy.cli.top.feed import Source
from vastproxy.cli.top.values import Row, clean, count, part, text
from vastproxy.errors import VastproxyError

#: vast.ai may take its time to destroy an instance.
ORDER_TIMEOUT_S = 60.0


class Refused(VastproxyError):
    """The proxy does not do it. The message says why, in its words."""


class Orders:
    """For one proxy. Every method raises NoProxyThere when it does not answer, and Refused when it will not."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def abort(self, instance: int | None) -> str:
        """End the running requests of one instance; with None of all of them, and the waiting ones."""
        answer = self._post("abort", {"instance": instance})
        many = count(answer, "cancelled")
        where = "" if instance is None else f" on #{instance}"
        return f"{many} {'request' if many == 1 else 'requests'}{where} ended"

    def drain(self, instance: int, *, undo: bool) -> str:
        """No new requests for it; or again."""
        self._post(f"backends/{instance}/{'undrain' if undo else 'drain'}", {})
        return f"#{instance} may serve again" if undo else f"#{instance} gets no new requests"

    def trust(self, instance: int) -> str:
        """Accept whatever host key it shows now."""
        self._post(f"backends/{instance}/trust", {})
        return f"the host key of #{instance} is forgotten; it is dialled again"

    def destroy(self, instances: Iterable[int]) -> str:
        """On the account, for good. Those that are left when one fails are tried all the same."""
        gone, failed = 0, list[str]()
        wanted = list(instances)
        for instance in wanted:
            try:
                self._post(f"backends/{instance}/destroy", {"confirm": str(instance)})
                gone += 1
            except Refused as error:
                failed.append(f"#{instance}: {error}")
        if failed:
            raise Refused(f"{gone} of {len(wanted)} destroyed; {'; '.join(failed)}")
        return f"#{wanted[0]} is destroyed" if len(wanted) == 1 else f"{gone} instances are destroyed"

    def cancel(self, request_id: str) -> str:
        """End one request."""
        self._post(f"requests/{quote(request_id, safe='')}/cancel", {})
        return f"request {clean(request_id)} is ended"

    def request(self, request_id: str) -> Row:
        """What became of a request."""
        return self._get(f"requests/{quote(request_id, safe='')}")

    def backend(self, instance: int) -> Row:
        """All that is known of an instance."""
        return self._get(f"backends/{instance}")

    def _get(self, path: str) -> Row:
        with self._asking() as proxy:
            return self._content(proxy, proxy.get(f"/vastproxy/v1/{path}"))

    def _post(self, path: str, body: dict[str, Any]) -> Row:
        with self._asking() as proxy:
            return self._content(proxy, proxy.post(f"/vastproxy/v1/{path}", json.dumps(body).encode()))

    def _asking(self) -> Any:
        source = self._source
        return asking(source.base, key=source.key, read_timeout_s=ORDER_TIMEOUT_S, is_own=source.is_own)

    def _content(self, proxy: Asker, answer: Any) -> Row:
        if answer.status_code in (401, 403) and not _why(proxy, answer):
            raise Refused("this needs a key with the right 'admin': give it with --key or VASTPROXY_API_KEY")
        if answer.status_code not in (200, 201, 202):
            raise Refused(_why(proxy, answer) or f"the proxy refused (HTTP {answer.status_code})")
        return proxy.object(answer)


def _why(proxy: Asker, answer: Any) -> str:
    """What an error says; "" if it says nothing."""
    try:
        return text(part(answer.json(), "error"), "message")
    except (ValueError, AttributeError, RecursionError):
        return ""
