"""What the commands print: tables and lines for people, on a console that is handed in."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vastproxy.cli import left
from vastproxy.cli.consoles import plain_console
from vastproxy.cli.remembered import rented_before

_COLOURS = {
    "healthy": "green",
    "running": "green",
    "yes": "green",
    "degraded": "yellow",
    "connecting": "yellow",
    "discovered": "yellow",
    "draining": "yellow",
    "provisioning": "yellow",
    "loading": "yellow",
    "restarting": "yellow",
    "queued": "yellow",
    "unhealthy": "red",
    "crashed": "red",
    "offline": "red",
    "outbid": "red",
}
_UNKNOWN = "-"


def stdout() -> Console:
    """The console of the process."""
    return plain_console()


def stderr() -> Console:
    """The same for what is asked and told beside the answer."""
    return plain_console(stderr=True)


def settings(
    console: Console, values: Mapping[str, Any], sources: Mapping[str, str] | None, config_path: Path | None
) -> None:
    """Settings by dotted path; with `sources` also where each came from."""
    line(console, f"config file: {config_path or 'none; built-in defaults are used'}")
    width = max(map(len, values), default=0)
    for path, value in values.items():
        text = f"{path:<{width}}  {_plain(value)}"
        shown = Text(text)
        if sources is not None:
            shown = Text.assemble(f"{text:<{width + 26}}  ", (clean(sources[path]), "dim"))
        # One line for each, whatever the width, so that grep finds a setting with its value.
        console.print(shown, soft_wrap=True)


def checks(console: Console, found: Iterable[tuple[str, str]]) -> None:
    """One line for each thing that is fine."""
    for topic, finding in found:
        console.print(Text.assemble(("ok", "green"), f"  {topic}: {clean(finding)}"), soft_wrap=True)


def instances(console: Console, rows: Sequence[Mapping[str, Any]]) -> None:
    """Instances as `Instance.to_json` tells them, with `serves` (bool), `why_not` and `time_left` beside it."""
    table = new_table()
    for name in ("ID", "State", "GPUs"):
        table.add_column(name, no_wrap=True)
    table.add_column("$/h", justify="right", no_wrap=True)
    table.add_column("SSH", no_wrap=True)
    table.add_column("Serves", no_wrap=True)
    table.add_column("Left", justify="right", no_wrap=True)
    table.add_column("Template or image, label", overflow="fold", min_width=16)
    for row in rows:
        table.add_row(
            str(row["id"]),
            _coloured(_text(row, "phase")),
            _gpus(row),
            _money(row.get("hourly_cost")),
            "direct" if row.get("direct_ssh") else "relay" if row.get("relay_ssh") else "none",
            _coloured("yes" if row.get("serves") else "no"),
            left.brief(row.get("time_left")),
            _lines(
                (_text(row, "template_name") or _text(row, "image"), ""),
                (f"label {_text(row, 'label')}" if row.get("label") else "", "dim"),
                *left.notes(row.get("time_left"), shown=duration),
                (rented_before(row.get("machine")), "dim"),
                (_text(row, "trouble") or _text(row, "why_not"), "yellow"),
            ),
        )
    console.print(table)


def line(console: Console, text: str) -> None:
    """One sentence, never broken into several lines by the width of a pipe."""
    console.print(Text(clean(text)), soft_wrap=True)


def status(
    console: Console,
    url: str,
    health: Mapping[str, Any],
    backends: Sequence[Mapping[str, Any]] | None,
    note: str | None,
) -> None:
    """How a proxy is: the verdict, vast.ai, the counts, and a row for each backend."""
    uptime = health.get("uptime_s")
    up = f", up {duration(uptime)}" if isinstance(uptime, (int, float)) else ""
    head = f"  {clean(url)}  vastproxy {_text(health, 'version') or '?'}{up}"
    console.print(Text.assemble(_coloured(_text(health, "status") or "unknown"), head), soft_wrap=True)
    if reason := _text(health, "reason"):
        line(console, f"  {reason}")
    line(console, f"  vast.ai API: {_vast_api(_mapping(health.get('vast_api')))}")
    if money := _account(_mapping(health.get("account"))):
        line(console, f"  account: {money}")
    line(console, f"  backends: {_counts(_mapping(health.get('backends')))}")
    if backends:
        console.print(_backends(backends))
    if note:
        line(console, f"  {note}")


def duration(seconds: float) -> str:
    """A length of time in its two largest units, such as `3 h 12 min`."""
    left = int(max(seconds, 0))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
        if len(parts) == 2 or (parts and not left):
            break
    return " ".join(parts)


def clean(text: str) -> str:
    """One line without control characters: labels and messages come from elsewhere, terminals obey them."""
    return "".join(
        char if char.isprintable() else " " if char.isspace() else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )


def new_table() -> Table:
    """An empty table, as all commands show theirs."""
    return Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")


def _backends(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = new_table()
    for name in ("ID", "State", "Via", "GPUs"):
        table.add_column(name, no_wrap=True)
    for name in ("Util", "Temp", "Busy", "Fails"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Engine, models", overflow="fold", min_width=14)
    for row in rows:
        gpus = _list(row, "gpus")
        table.add_row(
            _text(row, "id"),
            _coloured(_text(row, "state") or "?"),
            _via(row),
            _gpus(row),
            _over(gpus, "utilization_percent", " %", mean=True),
            _over(gpus, "temperature_c", " °C", mean=False),
            _text(row, "in_flight") or _UNKNOWN,
            _text(row, "failures") or _UNKNOWN,
            _lines(
                (_engine(row), ""),
                (_models(row), "dim"),
                *_other_engines(row),
                (rented_before(row.get("machine")), "dim"),
                *((_text(sign, "text"), "yellow") for sign in _list(row, "gpu_signs") if sign.get("fault")),
                *left.notes(row.get("time_left"), shown=duration),
                (_text(row, "error"), "red"),
            ),
        )
    return table


def _list(row: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects in a list of a row; none when a proxy of another version has something else there."""
    found = row.get(key)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, (list, tuple)) else []


def _via(row: Mapping[str, Any]) -> Text:
    """The path in use, and what is worth knowing of the other: that it stands by, stalls, or cannot be had."""
    used = _text(row, "path")
    notes: list[tuple[str, str]] = []
    for way in _list(row, "paths"):
        name, state = _text(way, "path"), _text(way, "state")
        if state == "doubted":
            notes.append((f"{name} stalls", "yellow"))
        elif name != used and state == "up":
            notes.append((f"+ {name}", "dim"))
        elif name != used and used and _text(way, "error"):
            notes.append((f"no {name}", "dim"))
    return _lines((used or _UNKNOWN, ""), *notes)


def _other_engines(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Those beside the one that requests go to."""
    lines = []
    for engine in _list(row, "engines"):
        if engine.get("port") == row.get("port"):
            continue
        error = _text(engine, "error")
        text = f"+ {_text(engine, 'kind')}:{_text(engine, 'port')} {_models(engine)}".rstrip()
        lines.append((f"{text}: {error}" if error else text, "yellow" if error else "dim"))
    return lines


def _engine(row: Mapping[str, Any]) -> str:
    engine, port = _text(row, "engine"), _text(row, "port")
    return f"{engine or '?'}:{port}" if port else engine


def _models(row: Mapping[str, Any]) -> str:
    models = row.get("models")
    return ", ".join(clean(str(model)) for model in models) if isinstance(models, (list, tuple)) else ""


def _vast_api(api: Mapping[str, Any]) -> str:
    latency = api.get("latency_ms")
    words = [_text(api, "status") or "unknown"]
    if isinstance(latency, (int, float)):
        words.append(f"{latency:.0f} ms")
    if error := _text(api, "error"):
        words.append(error)
    return ", ".join(words)


def _counts(counts: Mapping[str, Any]) -> str:
    others = [f"{value} {clean(name)}" for name, value in counts.items() if name != "total" and value]
    total = counts.get("total", "?")
    return f"{total} in total" + (f" ({', '.join(others)})" if others else "")


def _over(gpus: Sequence[Mapping[str, Any]], key: str, unit: str, *, mean: bool) -> str:
    """One figure for all GPUs: the mean, or the highest."""
    values = [value for gpu in gpus if isinstance(value := gpu.get(key), (int, float))]
    if not values:
        return _UNKNOWN
    return f"{sum(values) / len(values) if mean else max(values):.0f}{unit}"


def _gpus(row: Mapping[str, Any]) -> str:
    number, name = _text(row, "num_gpus"), _text(row, "gpu_name")
    return f"{number or '?'}x {name}" if name else _UNKNOWN


def _money(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else _UNKNOWN


def _account(account: Mapping[str, Any]) -> str:
    """The credit, what is spent, and for how long it lasts; of these what is known."""
    credit, cost, hours = (account.get(name) for name in ("credit_dollars", "dollars_per_hour", "hours_left"))
    told = []
    if isinstance(credit, (int, float)):
        told.append(f"${credit:.2f} left")
    if isinstance(cost, (int, float)):
        told.append(f"${cost:.3f} per hour")
    if isinstance(hours, (int, float)):
        told.append(f"lasts {duration(hours * 3600)}")
    return ", ".join(told)


def _lines(*parts: tuple[str, str]) -> Text:
    return Text("\n").join([Text(text, style=style) for text, style in parts if text])


def _coloured(word: str) -> Text:
    return Text(word, style=_COLOURS.get(word, ""))


def _plain(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(clean(str(item)) for item in value) if isinstance(value, list) else clean(str(value))


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return "" if value is None else clean(str(value))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
