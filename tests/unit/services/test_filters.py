"""Which instances are ours."""

import pytest

from tests.helpers.builders import make_instance
from vastproxy.services.filters import refusal, wanted
from vastproxy.settings.model import FleetSettings, Selector

INSTANCE = make_instance(id=7, label="llm")


def fleet(include: Selector | None = None, exclude: Selector | None = None) -> FleetSettings:
    return FleetSettings(include=include or Selector(), exclude=exclude or Selector())


def test_without_settings_everything_is_wanted() -> None:
    assert wanted(INSTANCE, fleet())


@pytest.mark.parametrize(
    "selector",
    [
        Selector(ids=(7,)),
        Selector(labels=("llm",)),
        Selector(labels=("LL*",)),
        Selector(templates=("SGLang",)),
        Selector(templates=("311204",)),
        Selector(templates=("0b8a6e2f3c914b7f9f1f6d1f0f3a2c77",)),
        Selector(images=("vastai/sglang*",)),
        Selector(gpus=("RTX 4090",)),
        Selector(gpus=("rtx_4090",)),
        Selector(ids=(1,), gpus=("RTX*",)),
    ],
    ids=str,
)
def test_a_selector_that_names_it_includes_or_excludes_it(selector: Selector) -> None:
    assert wanted(INSTANCE, fleet(include=selector))
    assert not wanted(INSTANCE, fleet(exclude=selector))


@pytest.mark.parametrize(
    "selector",
    [Selector(ids=(8,)), Selector(labels=("ll",)), Selector(images=("sglang",)), Selector(gpus=("H100*",))],
    ids=str,
)
def test_a_selector_that_does_not_name_it_keeps_it_out(selector: Selector) -> None:
    assert refusal(INSTANCE, fleet(include=selector)) == "not among fleet.include"
    assert wanted(INSTANCE, fleet(exclude=selector))


def test_exclude_beats_include_and_says_by_what() -> None:
    both = fleet(include=Selector(ids=(7,)), exclude=Selector(labels=("llm",)))
    assert refusal(INSTANCE, both) == "excluded by label llm"


def test_an_instance_without_label_matches_no_label_pattern() -> None:
    assert not wanted(make_instance(label=None), fleet(include=Selector(labels=("*",))))
