"""The log of an instance: vast.ai has the host write it to a file, which is then fetched from elsewhere."""

from vastproxy.vastai.calls import Caller
from vastproxy.vastai.errors import VastProtocolError, VastUnavailable
from vastproxy.vastai.parsing import as_mapping
from vastproxy.vastai.transport import Call

_POLL_S = 0.3  # the command line's interval


def read_logs(
    caller: Caller, instance_id: int, *, tail: int, pattern: str | None, daemon: bool, wait_s: float
) -> str:
    """See `VastClient.logs`."""
    doing = f"reading the log of instance {instance_id}"
    body = {"tail": str(max(1, tail))}
    if pattern:
        body["filter"] = pattern
    if daemon:
        body["daemon_logs"] = "true"
    path = f"/api/v0/instances/request_logs/{instance_id}/"
    answer = caller.run(Call("request_logs", "PUT", path, "instances.logs", doing, body=body))
    url = as_mapping(answer).get("result_url")
    if not isinstance(url, str):
        raise VastProtocolError(f"vast.ai named no file while {doing}", "no_result_url")
    return _fetch_when_ready(caller, url, doing, wait_s)


def _fetch_when_ready(caller: Caller, url: str, doing: str, wait_s: float) -> str:
    for attempt in range(max(1, round(wait_s / _POLL_S))):
        if attempt:
            caller.sleep(_POLL_S)
        reply = caller.fetch_public("fetch_logs", url, doing=doing)
        if 200 <= reply.status < 300:
            return reply.text
        # A store that does not let itself be listed says 403 of a file that is not there yet.
        if reply.status not in (403, 404) and reply.status < 500:
            break
    raise VastUnavailable(
        f"the file of vast.ai is not there while {doing} (HTTP {reply.status}); try again later",
        "not_ready",
        http_status=reply.status,
    )
