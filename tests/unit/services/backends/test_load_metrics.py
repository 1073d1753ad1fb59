"""Prometheus text: the wanted samples are found, everything else in it is harmless."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.load_metrics import MAX_BYTES, MAX_SAMPLES, Sample, read_samples

FIXTURES = Path(__file__).parents[3] / "fixtures" / "engines"


def values(text: str | bytes, *names: str) -> list[float]:
    body = text if isinstance(text, bytes) else text.encode()
    return [sample.value for sample in read_samples(body, names or ("m",))]


def test_the_samples_of_a_real_engine() -> None:
    body = (FIXTURES / "vllm_metrics.txt").read_bytes()
    model = {"model_name": "meta-llama/Llama-3.1-8B-Instruct"}
    assert read_samples(body, {"vllm:num_requests_running"}) == (
        Sample("vllm:num_requests_running", {"engine": "0", **model}, 5.0),
        Sample("vllm:num_requests_running", {"engine": "1", **model}, 3.0),
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("m 1", 1.0),
        ("m 1.5", 1.5),
        ("m .5", 0.5),
        ("m 5.", 5.0),
        ("m -1e3", -1000.0),
        ("m +2E-1", 0.2),
        ("m\t7", 7.0),
        ("m  7  1786296000123", 7.0),
        ("m{} 7", 7.0),
        ('m{a="b"} 7', 7.0),
        ('m{a="b",} 7', 7.0),
        ('m {a="b", c="d"} 7 \r', 7.0),
        ('m{a="}\\" 9 {"} 7', 7.0),
    ],
)
def test_a_sample(line: str, expected: float) -> None:
    assert values(f"# HELP m x\n# TYPE m gauge\n{line}\nother 3\n") == [expected]


@pytest.mark.parametrize(
    "line",
    [
        "m",
        "m ",
        "m NaN",
        "m +Inf",
        "m -Inf",
        "m 1e999",
        "m 0x10",
        "m 1_000",
        "m one",
        "m 1 2 3",
        "m 1;2",
        'm{a="b" 7',
        'm{a="b} 7',
        "m{a=b}} 7",
        "m{7",
        "m_total 7",
        "mm 7",
        " m 7",
        "# m 7",
        'm{a="' + "x" * 5000 + '"} 7',
        'm{a="' + '\\"' * 1000,
        "m" + "{" * 3000,
    ],
)
def test_anything_else_is_none(line: str) -> None:
    assert values(f"{line}\nm 7\n") == [7.0]


def test_labels_are_unescaped_and_decoded() -> None:
    (sample,) = read_samples(rb'm{a="x\"y\\n\n",b="\xc3\xa9",c="z"} 1', {"m"})
    assert sample.labels == {"a": 'x"y\\n\n', "b": r"\xc3\xa9", "c": "z"}
    (sample,) = read_samples('m{b="é"} 1'.encode() + b"", {"m"})
    assert sample.labels == {"b": "é"}
    (sample,) = read_samples(b'm{b="\xff"} 1', {"m"})
    assert sample.labels == {"b": "\ufffd"}


def test_no_name_is_wanted() -> None:
    assert read_samples(b"m 1\n", ()) == ()


def test_what_the_bound_cuts_is_left_out() -> None:
    """Half a line would be another number."""
    body = b"m 1\n" + b"#" * (MAX_BYTES - 10) + b"\nm 123456\n"
    assert values(body) == [1.0]
    assert values(b"#" * MAX_BYTES + b"\nm 1\n") == []


def test_so_many_samples_nobody_has() -> None:
    assert len(values("m 1\n" * (MAX_SAMPLES + 5))) == MAX_SAMPLES


@given(st.binary(max_size=500))
def test_no_bytes_break_it(body: bytes) -> None:
    for sample in read_samples(body, {"m", "a"}):
        assert math.isfinite(sample.value)


LINE = st.text(st.sampled_from('m{}="\\, 0123456789.eE+-NaInf\t_:#'), max_size=60)


@given(st.lists(LINE.map(lambda line: "m" + line), max_size=8))
def test_nothing_that_looks_like_a_sample_breaks_it(lines: list[str]) -> None:
    for sample in read_samples("\n".join(lines).encode(), {"m"}):
        assert math.isfinite(sample.value)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    labels=st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True), TEXT, max_size=4),
    value=st.floats(allow_nan=False, allow_infinity=False),
)
def test_what_is_written_by_the_rules_is_read(labels: dict[str, str], value: float) -> None:
    escaped = {
        name: text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for name, text in labels.items()
    }
    inside = ",".join(f'{name}="{text}"' for name, text in escaped.items())
    assert read_samples(f"m{{{inside}}} {value!r}\n".encode(), {"m"}) == (Sample("m", labels, value),)
