"""A page of metrics as Prometheus' own parsers read it, with what both formats ask of a page checked on the way."""

from collections.abc import Iterable

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from vastproxy.services.metrics.exposition import Form


class Scraped:
    """The samples of one page, by name and labels."""

    def __init__(self, text: str, form: Form = Form.TEXT) -> None:
        read = read_text if form is Form.TEXT else read_openmetrics
        self.families: dict[str, Metric] = {}
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in read(text):
            assert family.name not in self.families, f"{family.name} comes twice"
            self.families[family.name] = family
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self.samples, f"{key} comes twice"
                self.samples[key] = sample.value

    def __getitem__(self, name: str) -> float:
        """The value of the only sample with this name."""
        (value,) = self.all(name).values()
        return value

    def get(self, name: str, **labels: str) -> float | None:
        """The value of the sample with exactly these labels."""
        return self.samples.get((name, frozenset(labels.items())))

    def all(self, name: str) -> dict[frozenset[tuple[str, str]], float]:
        """Every sample with this name, by its labels."""
        return {labels: value for (found, labels), value in self.samples.items() if found == name}

    def label_values(self, name: str, label: str) -> set[str]:
        """What a label of this name stands for."""
        return {dict(labels).get(label, "") for labels in self.all(name)}

    @property
    def names(self) -> set[str]:
        """Of all samples."""
        return {name for name, _ in self.samples}


def scraped(pieces: Iterable[str], form: Form = Form.TEXT) -> Scraped:
    """The same for text that is still in pieces, and without the end mark."""
    return Scraped("".join(pieces) + ("" if form is Form.TEXT else "# EOF\n"), form)
