"""Markdown out of results. Pure."""

from collections.abc import Callable, Iterable, Sequence

from bench.contenders.all import CONTENDERS, DIRECT
from bench.figures import Results, Spread
from bench.targets import TARGETS, Target
from bench.works import WORKS, HttpWork, IdleWork, StreamWork

#: More doubts than this are one doubt.
MOST_DOUBTS = 20
TIMES = "\N{MULTIPLICATION SIGN}"
#: A helpers' core that is busier than this may have limited who was measured.
FULL = 0.97
#: More than this share of the contender's core was used by somebody else.
DISTURBED = 0.10


def number(value: float | None) -> str:
    """Three significant digits, with thousands set apart; a dash for nothing."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 if abs(value) < 10 else 1
    text = f"{value:.{digits}f}" if abs(value) >= 0.1 else f"{value:.2g}"
    return text


def with_range(found: Spread | None) -> str:
    """The median, and the least and greatest of several rounds."""
    if found is None:
        return "–"
    if found.rounds == 1:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)}–{number(found.high)})"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column is text, the others are numbers."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def title(contender: str) -> str:
    return CONTENDERS[contender].title if contender in CONTENDERS else contender


def targets_table(results: Results) -> str:
    """Every target with its verdict."""
    head = ("target", "work", "at most", "goal", "seen", "verdict")
    rows = [
        (
            target.what,
            target.work,
            _bound(target, target.limit),
            _bound(target, target.goal),
            _bound(target, target.seen(results)),
            target.verdict(results).value,
        )
        for target in TARGETS
    ]
    return table(head, rows)


def _bound(target: Target, value: float | None) -> str:
    if value is None:
        return "–"
    if target.theirs is not None:
        return f"{value:.2f}{TIMES}"
    return f"{number(value)} {target.unit}".strip()


Column = tuple[str, Callable[[Results, str, str], str]]


def _spread(figure: str) -> Callable[[Results, str, str], str]:
    return lambda results, work, contender: with_range(results.get(work, contender, figure))


def _median(figure: str) -> Callable[[Results, str, str], str]:
    return lambda results, work, contender: number(results.median(work, contender, figure))


def _added(figure: str) -> Callable[[Results, str, str], str]:
    def column(results: Results, work: str, contender: str) -> str:
        seen, alone = results.median(work, contender, figure), results.median(work, DIRECT, figure)
        if contender == DIRECT or seen is None or alone is None:
            return f"({number(seen)})" if contender == DIRECT else "–"
        return number(seen - alone)

    return column


def _percent(figure: str) -> Callable[[Results, str, str], str]:
    def column(results: Results, work: str, contender: str) -> str:
        found = results.median(work, contender, figure)
        return "–" if found is None else f"{found * 100:.3g} %"

    return column


HTTP_COLUMNS: tuple[Column, ...] = (
    ("requests/s", _median("rps")),
    ("CPU per request, µs", _spread("cpu_us_per_request")),
    ("p50 added, ms", _added("p50_ms")),
    ("p99 added, ms", _added("p99_ms")),
    ("errors", _median("errors")),
    ("its core", _percent("contender_cpu_share")),
    ("helpers' core", _percent("core0_share")),
)
BODY_COLUMNS: tuple[Column, ...] = (
    HTTP_COLUMNS[0],
    ("CPU per MB, ms", _spread("cpu_ms_per_mb")),
    *HTTP_COLUMNS[2:],
)
STREAM_COLUMNS: tuple[Column, ...] = (
    ("tokens/s", _median("tokens_per_s")),
    ("CPU per token, µs", _spread("cpu_us_per_token")),
    ("lag p50, ms", _spread("lag_p50_ms")),
    ("lag p99, ms", _spread("lag_p99_ms")),
    ("first token p50, ms", _median("first_token_p50_ms")),
    ("first token p99, ms", _median("first_token_p99_ms")),
    ("KB per stream", _median("kb_per_stream")),
    ("broken", _median("broken")),
    ("its core", _percent("contender_cpu_share")),
    ("helpers' core", _percent("core0_share")),
)
IDLE_COLUMNS: tuple[Column, ...] = (
    ("CPU, share of a core", _percent("contender_cpu_share")),
    ("memory, MB", _median("rss_mb")),
)


def _columns(work: str) -> tuple[Column, ...] | None:
    match WORKS.get(work):
        case HttpWork() as http:
            return HTTP_COLUMNS if http.is_small else BODY_COLUMNS
        case StreamWork():
            return STREAM_COLUMNS
        case IdleWork():
            return IDLE_COLUMNS
        case _:
            return None


def work_section(results: Results, work: str) -> str:
    """One work: a heading, a table, and who could not take part."""
    columns = _columns(work)
    heading = f"### {WORKS[work].title if work in WORKS else work}"
    if columns is None:
        return f"{heading}\n\n{_scale_table(results, work)}"
    rows, notes = [], []
    for contender in results.contenders(work):
        error = results.error(work, contender)
        if error is not None:
            notes.append(f"- {title(contender)}: {error}")
        if any(results.get(work, contender, name) for name in ("seconds", "rps")):
            rows.append((title(contender), *(column(results, work, contender) for _, column in columns)))
    parts = [heading, table(("", *(name for name, _ in columns)), rows)]
    if notes:
        parts.append("Without figures:\n\n" + "\n".join(notes))
    return "\n\n".join(parts)


def _scale_table(results: Results, work: str) -> str:
    rows: dict[str, dict[str, str]] = {}
    sizes: dict[str, None] = {}
    samples = [one for one in results.document.get("samples", ()) if one["work"] == work]
    for name in dict.fromkeys(name for one in samples for name in one.get("figures") or {}):
        what, _, size = name.rpartition(" @ ")
        sizes.setdefault(size)
        rows.setdefault(what, {})[size] = with_range(results.get(work, "vastproxy", name))
    sizes = dict.fromkeys(sorted(sizes, key=int))
    head = ("", *(f"{size} backends" for size in sizes))
    return table(head, [(what, *(found.get(size, "–") for size in sizes)) for what, found in rows.items()])


def works_sections(results: Results) -> str:
    return "\n\n".join(work_section(results, work) for work in results.works)


def machine_table(results: Results) -> str:
    """What ran where."""
    document = results.document
    machine, options = document.get("machine", {}), document.get("options", {})
    rows = [
        ("taken", str(document.get("taken", "?"))),
        ("processor", f"{machine.get('cpu')}, {machine.get('mhz')} MHz, {machine.get('cores')} cores"),
        ("memory", f"{machine.get('memory_gib')} GiB"),
        ("system", f"{machine.get('system')}, kernel {machine.get('kernel')}{_virtual(machine)}"),
        ("Python", str(machine.get("python"))),
        *((name, version) for name, version in document.get("versions", {}).items()),
        ("rounds", str(options.get("rounds"))),
        ("each measured for", f"{options.get('measure_s')} s after {options.get('warm_up_s')} s of warm-up"),
    ]
    return table(("", "what"), rows)


def _virtual(machine: dict[str, object]) -> str:
    return ", a virtual machine" if machine.get("is_virtual") else ""


#: What a work goes by.
_RATES: dict[type, str] = {HttpWork: "rps", StreamWork: "tokens_per_s"}


def generator_table(results: Results) -> str:
    """What the load and the engine reach alone, against the fastest contender: is there room?"""
    rows = []
    for work in results.works:
        figure = _RATES.get(type(WORKS.get(work)))
        alone = results.median(work, DIRECT, figure) if figure else None
        rates = {
            contender: rate
            for contender in results.contenders(work)
            if figure and contender != DIRECT and (rate := results.median(work, contender, figure))
        }
        if alone is None or not rates:
            continue
        fastest = max(rates, key=rates.__getitem__)
        busiest = max(rates, key=lambda one: results.median(work, one, "core0_share") or 0)
        busy = results.median(work, busiest, "core0_share")
        rows.append(
            (
                work,
                number(alone),
                f"{number(rates[fastest])} ({title(fastest)})",
                f"{alone / rates[fastest]:.1f}{TIMES}",
                "–" if busy is None else f"{busy * 100:.0f} % ({title(busiest)})",
            )
        )
    return table(("work", "asked directly, /s", "fastest contender, /s", "room", "helpers' core, most"), rows)


def doubts(results: Results) -> str:
    """What a reader should know before believing: full cores, disturbed samples, missing log lines."""
    found = []
    for sample in results.document.get("samples", ()):
        figures = sample.get("figures") or {}
        who = f"{sample['work']}, {title(sample['contender'])}, round {sample['round']}"
        own = figures.get("contender_cpu_share", 0.0)
        others = figures.get("core1_share", 0.0) - own
        if sample["contender"] != DIRECT and others > DISTURBED:
            found.append(f"- {who}: others used {others * 100:.0f} % of the contender's core")
        if sample["contender"] != DIRECT and figures.get("core0_share", 0.0) > FULL > own:
            found.append(f"- {who}: the helpers' core was full: rate and latency are theirs, CPU is not")
        lines, requests = figures.get("log_lines"), figures.get("requests")
        if lines is not None and requests and lines < 0.9 * requests:
            found.append(f"- {who}: {lines:,.0f} access log lines for {requests:,.0f} requests")
    if len(found) > MOST_DOUBTS:
        found[MOST_DOUBTS:] = [f"- and {len(found) - MOST_DOUBTS} more: this machine was not idle"]
    return "\n".join(found) or "None."
