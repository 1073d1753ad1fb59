"""What the process takes of its machine, from prometheus_client's own collectors, in a registry of this process.

Reading it means reading files below /proc, a name for each open descriptor among them, so it is done in a thread.
"""

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client import exposition as text_format
from prometheus_client.openmetrics import exposition as openmetrics

from vastproxy.services.metrics.exposition import END, Form
from vastproxy.services.threads import in_thread

_WRITERS: Final[Mapping[Form, Callable[[CollectorRegistry], bytes]]] = {
    Form.TEXT: text_format.generate_latest,
    Form.OPENMETRICS: openmetrics.generate_latest,
}


def process_registry() -> CollectorRegistry:
    """A registry of its own with memory, CPU, descriptors, garbage collection and the Python that runs."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


async def registry_text(registry: CollectorRegistry, form: Form) -> str:
    """Everything that is registered, without the end mark of OpenMetrics."""
    write = _WRITERS[form]
    text = await in_thread(lambda: write(registry), name="metrics")
    return text.decode().removesuffix(END)
