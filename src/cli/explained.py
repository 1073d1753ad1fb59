"""A request's story, as `Trace.to_json` tells it, for people.

What a proxy of another version tells is shown as far as it is known.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from vastproxy.cli.render import clean

_LEFT = 499
_UNFINISHED = ("running", "waiting")
_OUTCOMES = {"answered": "green", "left": "yellow", "cancelled": "yellow", "failed": "red", "refused": "red"}
#: Scores shown for an attempt, those of the chosen one and of the next ones.
_MAX_SHOWN = 8


def request(console: Console, trace: Mapping[str, Any]) -> None:
    """The request itself, then each attempt."""
    status = trace.get("status")
    head = f"  {_text(trace, 'method')} {_text(trace, 'path')}  request {_text(trace, 'id')}"
    console.print(Text.assemble(_verdict(trace.get("state"), status), head), soft_wrap=True)
    _line(console, 2, _asked(trace))
    _line(console, 2, _times(trace))
    attempts = [each for each in _list(trace, "attempts") if isinstance(each, Mapping)]
    left_out = _number(trace, "attempts_left_out") or 0
    if trace.get("state") == "waiting":
        _line(console, 2, ["waits for a place"])
    elif not attempts:
        _line(console, 2, ["no attempt was made: nobody was asked to serve it"])
    for place, attempt in enumerate(attempts, 1):
        _attempt(console, place, attempt)
    if left_out:
        _line(console, 2, [f"{left_out:g} more attempts in the middle are not remembered"])


def _verdict(state: object, status: object) -> Text:
    if state in _UNFINISHED:
        return Text(str(state), style="yellow")
    if status == _LEFT:
        return Text("the client left", style="yellow")
    is_fine = isinstance(status, int) and status < 400
    return Text(clean(str(status)) if status is not None else "unknown", style="green" if is_fine else "red")


def _asked(trace: Mapping[str, Any]) -> Iterable[str]:
    model = _text(trace, "model")
    yield f"model {model}" if model else "names no model"
    if trace.get("stream") is not None:
        yield "as a stream" if trace["stream"] is True else "in one piece"
    for key, words in (("key", "key"), ("priority", "priority"), ("pin", "tied to its place by")):
        if text := _text(trace, key):
            yield f"{words} {text}"


def _times(trace: Mapping[str, Any]) -> Iterable[str]:
    began = _number(trace, "began_unix")
    if began is not None and 0 <= began < 1e11:
        yield f"began {datetime.fromtimestamp(began).astimezone():%Y-%m-%d %H:%M:%S}"
    if waited := _number(trace, "queue_ms"):
        yield f"waited {_duration(waited)} for a place"
    if (first := _number(trace, "first_byte_ms")) is not None:
        yield f"first byte after {_duration(first)}"
    if (total := _number(trace, "total_ms")) is not None:
        yield f"{_duration(total)} {'so far' if trace.get('state') in _UNFINISHED else 'in all'}"
    received, sent = _number(trace, "received_bytes"), _number(trace, "sent_bytes")
    if received is not None and sent is not None:
        yield f"{received:.0f} bytes in, {sent:.0f} out"


def _attempt(console: Console, place: int, attempt: Mapping[str, Any]) -> None:
    outcome = _text(attempt, "outcome")
    begun, ended = _number(attempt, "started_ms"), _number(attempt, "ended_ms")
    after = f" after {_duration(ended - begun)}" if begun is not None and ended is not None else ""
    where = f"  {place}. instance {_text(attempt, 'instance')}, port {_text(attempt, 'port')}: "
    told = Text(outcome or "under way", style=_OUTCOMES.get(outcome, "" if outcome else "yellow"))
    console.print(Text.assemble(where, told, after), soft_wrap=True)
    if error := _text(attempt, "error"):
        console.print(Text(f"     {error}", style="red"), soft_wrap=True)
    if reason := _text(attempt, "reason"):
        _line(console, 5, [f"chosen: {reason}"])
    _line(console, 5, _scores(attempt))
    _line(console, 5, _connection(attempt, begun))


def _scores(attempt: Mapping[str, Any]) -> Iterable[str]:
    """The chosen one and those that came next to it, the lowest score first."""
    rows = [row for row in _list(attempt, "candidates") if isinstance(row, Mapping)]
    scored = [(score, row) for row in rows if (score := _number(row, "score")) is not None]
    if not scored:
        return
    mine = (attempt.get("instance"), attempt.get("port"))
    scored.sort(key=lambda each: ((each[1].get("instance"), each[1].get("port")) != mine, each[0]))
    for at, (score, row) in enumerate(scored[:_MAX_SHOWN]):
        name = f"{_text(row, 'instance')}:{_text(row, 'port')} {score:.4g}"
        yield name if at else f"scores: {name}"
    total = _number(attempt, "candidates_total") or 0
    if (more := max(int(total), len(scored)) - _MAX_SHOWN) > 0:
        yield f"and {more} more"


def _connection(attempt: Mapping[str, Any], begun: float | None) -> Iterable[str]:
    connected, first = _number(attempt, "connected_ms"), _number(attempt, "first_byte_ms")
    if path := _text(attempt, "path"):
        yield f"over the {path} path"
    if attempt.get("reused") is True:
        yield "on a connection that had served before"
    elif connected is not None and begun is not None:
        yield f"connected after {_duration(connected - begun)}"
    if first is not None and begun is not None:
        yield f"first byte after {_duration(first - begun)}"


def _line(console: Console, indent: int, parts: Iterable[str]) -> None:
    if text := ", ".join(parts):
        console.print(Text(" " * indent + text), soft_wrap=True)


def _duration(ms: float) -> str:
    return f"{ms:.0f} ms" if abs(ms) < 1000 else f"{ms / 1000:.2f} s"


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return "" if value is None else clean(str(value))


def _number(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _list(row: Mapping[str, Any], key: str) -> list[Any]:
    value = row.get(key)
    return value if isinstance(value, list) else []
