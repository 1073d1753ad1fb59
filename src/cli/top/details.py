"""All that is known of one instance, line by line. Pure."""

from collections.abc import Iterable, Iterator

from rich.text import Text

from vastproxy.cli.top import events, facts, words
from vastproxy.cli.top.look import Look
from vastproxy.cli.top.values import Row, number, part, rows, text, texts

NAME = 14


def lines(row: Row, more: Row, happened: Iterable[Row], width: int, look: Look) -> list[Text]:
    """`row`: as the overview tells it; `more`: what was asked for beside it, maybe nothing; `happened`: its events."""
    found = [Text(), _title(row, look), Text()]
    found += _fields(row, part(more, "instance"), look)
    for head, body in (
        ("Paths", _paths(row, look)),
        ("Engines", _engines(row, look)),
        ("GPUs", _gpus(row, width, look)),
        ("Events", [events.line(one, width - 4, look) for one in happened]),
    ):
        if body:
            found += [
                Text(),
                Text(f"  {head}", style="bold"),
                *(Text("  ").append_text(line) for line in body),
            ]
    return [words.padded(line, width, look) for line in found]


def _title(row: Row, look: Look) -> Text:
    since = words.long_span(number(row, "since_s"), look)
    name = (facts.name(row, look), "bold")
    return Text.assemble(
        "  ", name, "  ", facts.gpus_name(row, look), "  ", facts.state(row, look), (f" for {since}", "dim")
    )


def _fields(row: Row, instance: Row, look: Look) -> Iterator[Text]:
    left = part(row, "time_left")
    machine = part(row, "machine")
    told = {
        "trouble": facts.trouble(row),
        "label": text(row, "label"),
        "address": text(row, "address"),
        "models": ", ".join(texts(row, "models")),
        "requests": _requests(row, look),
        "tokens": _per_second(row, "tokens_per_s", look),
        "price": f"{words.dollars(number(row, 'hourly_cost'), look)} per hour",
        "time left": _time_left(left, look),
        "machine": _machine(row, machine),
        "where": text(row, "geolocation") or text(instance, "geolocation"),
        "image": text(instance, "template_name") or text(instance, "image"),
    }
    for name, value in told.items():
        if value:
            yield Text.assemble((f"  {name:<{NAME}}", "dim"), (value, "red" if name == "trouble" else ""))


def _requests(row: Row, look: Look) -> str:
    parts = [
        f"{words.whole(number(row, 'in_flight'), look)} in flight",
        f"{words.whole(number(row, 'requests'), look)} since the start",
        f"{words.whole(number(row, 'failures'), look)} failed",
    ]
    return ", ".join(parts)


def _per_second(row: Row, key: str, look: Look) -> str:
    value = number(row, key)
    return "" if value is None else f"{words.rate(value, look)} per second"


def _time_left(left: Row, look: Look) -> str:
    seconds = number(left, "left_s")
    if not left:
        return ""
    said = [words.long_span(seconds, look)]
    if because := text(left, "because"):
        said.append(f"until the {because} ends")
    if (drains := number(left, "drains_in_s")) is not None:
        said.append(f"no new requests in {words.long_span(drains, look)}")
    if (risk := text(left, "outbid_risk")) not in ("", "none"):
        said.append(f"risk to be outbid: {risk}")
    if part(left, "price_rise"):
        said.append("a higher price waits for an answer")
    return ", ".join(said)


def _machine(row: Row, machine: Row) -> str:
    said = [text(row, "machine_id")]
    if machine.get("rented_before") is True:
        said.append("you rented it before")
    if (score := number(machine, "score")) is not None:
        said.append(f"score {score:.2f}")
    return ", ".join(word for word in said if word)


def _paths(row: Row, look: Look) -> list[Text]:
    found = []
    for path in rows(row, "paths"):
        streams, error = number(path, "streams"), text(path, "error")
        shown = Text.assemble(
            f"  {text(path, 'path'):<8}",
            f"{text(path, 'state'):<9}",
            f"{text(path, 'address') or look.dash:<24}",
        )
        if number(path, "connections"):
            shown.append(f"{words.whole(streams, look)} streams", style="dim")
        found.append(shown.append(error, style="red") if error else shown)
    return found


def _engines(row: Row, look: Look) -> list[Text]:
    found = []
    for engine in rows(row, "engines"):
        name = f"{text(engine, 'kind')}:{text(engine, 'port')}"
        version, error = text(engine, "version"), text(engine, "error")
        load = [
            f"{words.whole(value, look)} {word}"
            for key, word in (("running", "running"), ("waiting", "waiting"), ("capacity", "at most"))
            if (value := number(engine, key)) is not None
        ]
        if (used := number(engine, "cache_used")) is not None:
            load.append(f"cache {words.percent(used * 100, look)}")
        shown = Text.assemble(f"  {name:<16}", (f"{version:<12}", "dim"), ", ".join(texts(engine, "models")))
        shown.append(f"  {', '.join(load)}" if load else "", style="dim")
        found.append(shown.append(f"  {error}", style="red") if error else shown)
    return found


def _gpus(row: Row, width: int, look: Look) -> list[Text]:
    gpus = rows(row, "gpus")
    if not gpus:
        why = text(row, "gpu_error")
        return [Text(f"  {why}", style="red")] if why else []
    cells = 24 if width >= 90 else 10
    found = []
    for gpu in gpus:
        load = number(gpu, "utilization_percent")
        shown = Text.assemble(
            f"  {words.whole(number(gpu, 'index'), look):>2} ", words.bar(load, cells, look)
        )
        for value, room in (
            (Text(words.percent(load, look)), 6),
            (facts.heat(number(gpu, "temperature_c"), look), 7),
            (Text(words.memory(number(gpu, "memory_used_mib"), number(gpu, "memory_total_mib"), look)), 12),
            (Text(words.watts(number(gpu, "power_w"), look)), 7),
        ):
            shown.append_text(words.padded(value, room, look, right=True))
        if (clock := number(gpu, "sm_clock_mhz")) is not None:
            shown.append(f"  {clock:.0f} MHz", style="dim")
        if held := texts(gpu, "throttle"):
            shown.append(f"  held down by {', '.join(held)}", style="yellow")
        found.append(shown)
    for sign in rows(row, "gpu_signs"):
        found.append(Text(f"  {text(sign, 'text')}", style="red" if sign.get("fault") else "yellow"))
    return found
