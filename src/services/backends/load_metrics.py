"""Prometheus text: the few samples that somebody wants, out of the thousands of lines that an engine writes. Pure.

Facts: Prometheus text exposition format 0.0.4. A line that is not a whole sample with a finite value is left out; so is
a last line that the bound has cut.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

#: vLLM 0.11 writes 50 to 200 KB, most of it histograms.
MAX_BYTES = 1 << 20
#: More of one name than engines have: one for each data-parallel rank and priority.
MAX_SAMPLES = 2_000
_MAX_LINE_BYTES = 4_096

_SAMPLE = re.compile(
    rb"""
    ([A-Za-z_:][A-Za-z0-9_:]*)
    [ \t]* (?: \{ ( (?: [^"{}] | "(?:[^"\\]|\\.)*" )* ) \} )?
    [ \t]+ ( [+-]? (?: [0-9]+ \.? [0-9]* | \.[0-9]+ ) (?: [eE][+-]?[0-9]{1,4} )? )
    (?: [ \t]+ [+-]?[0-9]{1,20} )?
    [ \t\r]*
    """,
    re.VERBOSE,
)
_LABEL = re.compile(rb'([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"')
_ESCAPES = {rb"\n": b"\n", rb"\"": b'"', rb"\\": b"\\"}
_ESCAPE = re.compile(rb'\\[n"\\]')


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric. `value` is finite."""

    name: str
    labels: Mapping[str, str]
    value: float


def read_samples(body: bytes, names: Collection[str]) -> tuple[Sample, ...]:
    """The samples with exactly these names, in the order of the text. Never raises."""
    return tuple(_samples(body, frozenset(names)))


def _samples(body: bytes, names: Collection[str]) -> Iterator[Sample]:
    starts = tuple(name.encode() for name in names)
    text = body
    if len(text) > MAX_BYTES:
        text = text[: text.rfind(b"\n", 0, MAX_BYTES) + 1]
    left = MAX_SAMPLES
    for line in text.split(b"\n"):
        if not line.startswith(starts) or len(line) > _MAX_LINE_BYTES:
            continue
        sample = _sample(line)
        if sample is not None and sample.name in names:
            yield sample
            left -= 1
            if not left:
                return


def _sample(line: bytes) -> Sample | None:
    found = _SAMPLE.fullmatch(line)
    if found is None:
        return None
    value = float(found[3])
    if not math.isfinite(value):
        return None
    labels = {name.decode(): _unescaped(text) for name, text in _LABEL.findall(found[2] or b"")}
    return Sample(found[1].decode(), labels, value)


def _unescaped(text: bytes) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPES[found[0]], text).decode("utf-8", "replace")
