"""What is shown of a backend, worked out from what the proxy tells of it. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from rich.text import Text

from vastproxy.cli.top import words
from vastproxy.cli.top.look import STATE_STYLES, Look
from vastproxy.cli.top.values import (
    Row,
    highest,
    holds,
    identity,
    mean,
    number,
    part,
    rows,
    text,
    texts,
    total,
)

#: Time left from which on it is told in yellow, and in red: new requests stop ten minutes before the end.
SOON_S: Final = 3600.0
NOW_S: Final = 600.0
WARM_C: Final = 80.0
HOT_C: Final = 90.0


def name(row: Row, look: Look) -> str:
    """`#48001001`."""
    id = identity(row)
    return f"#{look.dash if id is None else id}"


def gpus_name(row: Row, look: Look) -> str:
    """The kind and how many; a single GPU has no number."""
    kind, many = text(row, "gpu_name"), number(row, "num_gpus")
    if not kind:
        return look.dash
    return f"{kind}{look.times}{many:.0f}" if many is not None and many != 1 else kind


def state(row: Row, look: Look) -> Text:
    """Its state, with a dot of its colour."""
    word = text(row, "state") or look.dash
    return Text(f"{look.dot} {word}", style=STATE_STYLES.get(word, ""))


def since(row: Row, look: Look) -> str:
    return words.span(number(row, "since_s"), look)


def way(row: Row, look: Look, *, with_word: bool = False) -> Text:
    """The path that new requests take: a green rabbit for direct, a red turtle for the relay."""
    match text(row, "path"):
        case "direct" as word:
            sign, style = look.direct, "green"
        case "relay" as word:
            sign, style = look.relay, "red"
        case _:
            return Text(look.dash, style="dim")
    if with_word and sign.isascii():
        return Text(word, style=style)
    return Text(f"{sign} {word}" if with_word else sign, style=style)


def model(row: Row, look: Look) -> str:
    """The first model, and how many more there are."""
    models = texts(row, "models")
    if not models:
        return look.dash
    return models[0] if len(models) == 1 else f"{models[0]} +{len(models) - 1}"


def short_model(row: Row, look: Look) -> str:
    """The same without who made it."""
    return model(row, look).rpartition("/")[2]


def utilization(row: Row) -> float | None:
    """The mean of its GPUs, in percent."""
    return mean([number(gpu, "utilization_percent") for gpu in rows(row, "gpus")])


def hottest(row: Row) -> float | None:
    """Of its GPUs, in °C."""
    return highest([number(gpu, "temperature_c") for gpu in rows(row, "gpus")])


def heat(celsius: float | None, look: Look) -> Text:
    shown = words.heat(celsius, look)
    if celsius is None or celsius < WARM_C:
        return Text(shown)
    return Text(shown, style="red" if celsius >= HOT_C else "yellow")


def memory(row: Row, look: Look) -> str:
    """Of all its GPUs together."""
    gpus = rows(row, "gpus")
    used = total([number(gpu, "memory_used_mib") for gpu in gpus])
    return words.memory(used, total([number(gpu, "memory_total_mib") for gpu in gpus]), look)


def power(row: Row) -> float | None:
    """Of all its GPUs together, in watts."""
    return total([number(gpu, "power_w") for gpu in rows(row, "gpus")])


def errors(row: Row) -> float | None:
    """Of the last minutes; where the proxy does not tell those, since its start."""
    recent = number(row, "errors")
    return number(row, "failures") if recent is None else recent


def errors_shown(row: Row, look: Look) -> Text:
    found = errors(row)
    return Text(words.whole(found, look), style="red" if found else "")


def left_s(row: Row) -> float | None:
    """Seconds until the contract or the credit ends, whichever is first."""
    return number(part(row, "time_left"), "left_s")


def time_left(row: Row, look: Look) -> Text:
    """How long it may stay, in the colour of haste. `?` behind it: somebody may outbid us."""
    seconds, risk = left_s(row), text(part(row, "time_left"), "outbid_risk")
    shown = words.span(seconds, look) + ("?" if risk == "high" else "")
    style = "" if seconds is None or seconds >= SOON_S else "yellow" if seconds >= NOW_S else "red"
    return Text(shown, style="yellow" if risk == "high" and not style else style)


def is_draining(row: Row) -> bool:
    return row.get("draining") is True or text(row, "state") == "draining"


def trouble(row: Row) -> str:
    """Why it does not serve, or what is wrong with its GPUs; "" if nothing is."""
    if text(row, "state") != "healthy" and (error := text(row, "error")):
        return error
    return next((text(sign, "text") for sign in rows(row, "gpu_signs") if sign.get("fault")), "")


def searched(row: Row) -> str:
    """What a filter looks through."""
    named = (
        text(row, key)
        for key in ("id", "state", "path", "engine", "gpu_name", "label", "error", "geolocation")
    )
    return " ".join((*named, *texts(row, "models")))


def _known(value: float | None, *, high_first: bool = True) -> float:
    """What is not known comes last."""
    if value is None:
        return float("inf")
    return -value if high_first else value


_STATES: Final = ("unhealthy", "removing", "connecting", "discovered", "draining", "healthy")


def _by_state(row: Row) -> float:
    word = text(row, "state")
    return _STATES.index(word) if word in _STATES else -1


#: What the list can be sorted by, in the order in which `s` goes through it: what needs somebody comes first.
ORDERS: Final[Mapping[str, Callable[[Row], float]]] = {
    "id": lambda row: 0.0,
    "state": _by_state,
    "load": lambda row: _known(utilization(row)),
    "requests": lambda row: _known(number(row, "in_flight")),
    "tokens": lambda row: _known(number(row, "tokens_per_s")),
    "price": lambda row: _known(number(row, "hourly_cost")),
    "errors": lambda row: _known(errors(row)),
    "time left": lambda row: _known(left_s(row), high_first=False),
}


def arranged(backends: Sequence[Row], order: str, sought: str = "") -> list[Row]:
    """Those that a filter lets through – each of its words is in what is known of them –, in an order of `ORDERS`."""
    found = [row for row in backends if holds(searched(row), sought)]
    return sorted(found, key=lambda row: (ORDERS[order](row), identity(row) or 0))
