"""Which instances are ours to serve: `fleet.include` and `fleet.exclude`, decided without I/O."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from vastproxy.settings.model import FleetSettings, Selector
from vastproxy.vastai.types import Instance


def refusal(instance: Instance, fleet: FleetSettings) -> str | None:
    """Why the settings keep this instance out, as a phrase for a person; None if they let it in."""
    if (why := match(instance, fleet.exclude)) is not None:
        return f"excluded by {why}"
    if _says_something(fleet.include) and match(instance, fleet.include) is None:
        return "not among fleet.include"
    return None


def wanted(instance: Instance, fleet: FleetSettings) -> bool:
    """Do the settings let this instance in? Says nothing about whether it runs."""
    return refusal(instance, fleet) is None


def match(instance: Instance, selector: Selector) -> str | None:
    """The first reason for which the selector names this instance, or None. Case does not matter."""
    if instance.id in selector.ids:
        return f"id {instance.id}"
    named: tuple[tuple[str, tuple[str, ...], tuple[object, ...]], ...] = (
        ("label", selector.labels, (instance.label,)),
        (
            "template",
            selector.templates,
            (instance.template_name, instance.template_id, instance.template_hash_id),
        ),
        ("image", selector.images, (instance.image,)),
        ("gpu", selector.gpus, (instance.gpu_name,)),
    )
    for kind, patterns, values in named:
        if patterns and (pattern := _first_match(patterns, values)) is not None:
            return f"{kind} {pattern}"
    return None


def _first_match(patterns: Iterable[str], values: Iterable[object]) -> str | None:
    texts = [str(value).casefold() for value in values if value not in (None, "")]
    for pattern in patterns:
        # vast.ai writes "RTX 4090", its command line wants RTX_4090: accept both.
        folded = pattern.casefold()
        if any(fnmatchcase(text, folded) or text == folded.replace("_", " ") for text in texts):
            return pattern
    return None


def _says_something(selector: Selector) -> bool:
    return any((selector.ids, selector.labels, selector.templates, selector.images, selector.gpus))
