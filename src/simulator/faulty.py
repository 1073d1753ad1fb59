"""The answers of an API that misbehaves."""

import json
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from vastproxy.simulator.faults import Fault
from vastproxy.simulator.limits import Endpoint, Excess
from vastproxy.simulator.payloads import JsonObject

_TOO_FREQUENT = "API requests too frequent"


def _html(status: int, title: str) -> Response:
    head = f"<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n"
    body = f"<center><h1>{status} {title}</h1></center>\r\n<hr><center>nginx</center>\r\n"
    return HTMLResponse(f"{head}{body}</body>\r\n</html>\r\n", status)


def _error(status: int, error: str, message: str) -> Response:
    return JSONResponse({"success": False, "error": error, "msg": message}, status)


def spoil(fault: Fault) -> Response | None:
    """The answer instead of the real one. None for a fault that changes the real answer."""
    match fault:
        case Fault.RATE_LIMIT_TEXT:
            return PlainTextResponse(f"{_TOO_FREQUENT}: endpoint threshold=1.0", 429)
        case Fault.RATE_LIMIT_DETAIL:
            return JSONResponse({"detail": f"{_TOO_FREQUENT} endpoint threshold=1.0"}, 429)
        case Fault.RATE_LIMIT_JSON:
            return _error(429, "rate_limit_exceeded", _TOO_FREQUENT)
        case Fault.SEARCH_QUOTA:
            return _error(429, "search_quota_exceeded", "Daily search quota exceeded")
        case Fault.SERVER_ERROR_JSON:
            return _error(500, "server_error", "Internal server error")
        case Fault.SERVER_ERROR_HTML:
            return _html(500, "Internal Server Error")
        case Fault.BAD_GATEWAY_HTML:
            return _html(502, "Bad Gateway")
        case Fault.FORBIDDEN_HTML:
            return _html(403, "Forbidden")
        case Fault.BAD_KEY_401:
            return _error(401, "auth_error", "Invalid user key")
        case Fault.BAD_KEY_404:
            return _error(404, "auth_error", "Invalid user key")
        case Fault.SUCCESS_FALSE:
            return _error(200, "simulated_failure", "The request was not carried out.")
        case Fault.NO_V1:
            return _html(404, "Not Found")
        case _:
            return None


def too_frequent(endpoint: Endpoint, excess: Excess, *, announce: bool) -> Response:
    """429 in the shape that this endpoint uses. `announce` adds Retry-After."""
    threshold = f"endpoint threshold={excess.limit.period_s / excess.limit.calls}"
    response: Response
    if endpoint is Endpoint.DESTROY:
        response = _error(429, "rate_limit_exceeded", _TOO_FREQUENT)
    elif endpoint in (Endpoint.LIST_V1, Endpoint.LIST_V0):
        response = PlainTextResponse(f"{_TOO_FREQUENT}: {threshold}", 429)
    else:
        response = JSONResponse({"detail": f"{_TOO_FREQUENT} {threshold}"}, 429)
    if announce:
        response.headers["Retry-After"] = f"{excess.wait_s + 0.01:.2f}"
    return response


def empty_list(answer: JsonObject) -> JsonObject:
    """A list answer that claims that there is nothing, in the shape of the version that was asked."""
    nothing: JsonObject = {"instances_found": 0, "instances": []}
    if "total_instances" in answer:
        nothing |= {"success": True, "total_instances": 0, "label_counts": {}, "next_token": None}
    return nothing


def truncated(answer: Any) -> Response:
    """200 whose JSON breaks off half way."""
    body = json.dumps(answer).encode()
    return Response(body[: len(body) // 2], media_type="application/json")
