"""Reading what stands behind the `?` of our own pages."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from vastproxy.api.errors import ApiError

#: Digits of a number, and of an id.
_DIGITS = 6
_ID_DIGITS = 18


class BadQuery(Exception):
    """One of the values cannot be used. `error` is the answer."""

    def __init__(self, name: str, expected: str) -> None:
        code = "invalid_limit" if name == "limit" else "invalid_query"
        self.error = ApiError(400, f"{name} must be {expected}.", "invalid_request_error", code, name)
        super().__init__(self.error.message)


def number(request: Request, name: str, default: int) -> int:
    """A whole number. Raises BadQuery."""
    found = _read(request, name, _DIGITS)
    return default if found is None else found


def instance_id(request: Request, name: str = "instance") -> int | None:
    """The id of an instance, if there is one. Raises BadQuery."""
    return _read(request, name, _ID_DIGITS)


def _read(request: Request, name: str, digits: int) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= digits):
        raise BadQuery(name, "a number")
    return int(text)


def seconds(request: Request, name: str, default: float, *, least: float, most: float) -> float:
    """A time within these bounds. Raises BadQuery."""
    text = request.query_params.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise BadQuery(name, f"a number from {least:g} to {most:g}")
    return value


def one_of(request: Request, name: str, allowed: Sequence[str]) -> str | None:
    """A word out of these, None if it is not given. Raises BadQuery."""
    text = request.query_params.get(name)
    if text is not None and text not in allowed:
        raise BadQuery(name, f"one of {', '.join(allowed)}")
    return text


async def refuse_query(request: Request, error: Exception) -> Response:
    """The answer to a `BadQuery`, for a Starlette application."""
    assert isinstance(error, BadQuery)
    return Response(error.error.body(), error.error.status, media_type="application/json")
