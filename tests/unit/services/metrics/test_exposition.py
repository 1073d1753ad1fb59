"""The text formats: whatever a label holds, the lines are read back as they were meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.scraped import scraped
from vastproxy.services.metrics.exposition import (
    LABEL_CHARS,
    Family,
    Form,
    block,
    choose,
    histogram,
    labelled,
    sample,
)

FORMS = pytest.mark.parametrize("form", Form)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Form.TEXT),
        ("*/*", Form.TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", Form.TEXT),
        ("text/plain", Form.TEXT),
        ("application/openmetrics-text", Form.OPENMETRICS),
        (PROMETHEUS_3, Form.OPENMETRICS),
        ("Application/OpenMetrics-Text; version=1.0.0 ; Q=0.5, text/plain;q=0.4", Form.OPENMETRICS),
        ("application/openmetrics-text;q=0.3, text/plain;q=0.9", Form.TEXT),
        ("application/openmetrics-text;q=0", Form.TEXT),
        ("application/openmetrics-text;q=much", Form.TEXT),
    ],
)
def test_the_format_is_the_one_asked_for(accept: str, form: Form) -> None:
    assert choose(accept) is form


@FORMS
@pytest.mark.parametrize("kind", ["counter", "gauge", "info"])
def test_a_single_sample(form: Form, kind: str) -> None:
    ending = {"counter": "_total", "info": "_info"}.get(kind, "")
    family = Family(f"x{ending}", kind, 'a \\ and\na "line"')  # type: ignore[arg-type]
    found = scraped(block(family, form, [sample(family.name, "", 1)]), form)
    assert found[family.name] == 1
    (told,) = found.families.values()
    assert told.documentation == 'a \\ and\na "line"'
    assert told.type == ("gauge" if kind == "info" and form is Form.TEXT else kind)


@FORMS
def test_a_family_without_samples_is_not_told(form: Form) -> None:
    assert list(block(Family("x", "gauge", "x"), form, [])) == []


@FORMS
def test_work_without_a_line_is_passed_on_and_begins_nothing(form: Form) -> None:
    family = Family("x", "gauge", "x")
    assert list(block(family, form, ["", ""])) == ["", ""]
    assert list(block(family, form, ["", "x 1\n", "", "x 2\n"])) == [
        "",
        family.head(form) + "x 1\n",
        "",
        "x 2\n",
    ]


@FORMS
def test_a_histogram(form: Form) -> None:
    family = Family("took_seconds", "histogram", "x", ("who",))
    text = histogram(family.name, labelled(who="a"), (0.1, 1.0), (2, 0, 3), 7.5)
    found = scraped(block(family, form, [text]), form)
    assert {le: found.get("took_seconds_bucket", who="a", le=le) for le in ("0.1", "1.0", "+Inf")} == {
        "0.1": 2,
        "1.0": 2,
        "+Inf": 5,
    }
    assert found.get("took_seconds_sum", who="a") == 7.5
    assert found.get("took_seconds_count", who="a") == 5


@given(st.text(max_size=LABEL_CHARS), st.sampled_from(Form))
def test_no_value_of_a_label_can_end_its_line_or_begin_another_label(value: str, form: Form) -> None:
    """What can be printed comes back as it was; what cannot is replaced, character by character."""
    text = sample("x", labelled(model=value, more="y"), 1).encode("utf-8", "replace").decode()
    found = scraped(block(Family("x", "gauge", "x"), form, [text]), form)
    (labels,) = found.all("x")
    told = dict(labels)
    assert told.pop("more") == "y"
    expected = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value)
    assert told == ({"model": expected} if value else {})


def test_a_long_value_is_cut() -> None:
    assert len(labelled(model="x" * 5_000)) == len('model=""') + LABEL_CHARS
