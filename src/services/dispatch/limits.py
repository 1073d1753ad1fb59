"""The limits that the settings give to the deciding parts."""

from vastproxy.services.routing.admission import AdmissionLimits
from vastproxy.services.routing.outlier import OutlierLimits
from vastproxy.services.routing.ticket import ClassLimits
from vastproxy.settings import Settings


def admission_limits(settings: Settings) -> AdmissionLimits:
    """Who is taken on, and who waits."""
    caps, queue = settings.admission, settings.queue
    return AdmissionLimits(
        max_in_flight=caps.max_in_flight,
        max_in_flight_per_key=caps.max_in_flight_per_key,
        interactive=ClassLimits(queue.max_waiting, queue.max_waiting_per_key, queue.max_wait_s),
        batch=ClassLimits(queue.batch_max_waiting, queue.batch_max_waiting_per_key, queue.batch_max_wait_s),
        batch_after=queue.batch_after,
    )


def outlier_limits(settings: Settings) -> OutlierLimits:
    """Who is left alone because of what becomes of requests."""
    given = settings.passive_health
    return OutlierLimits(
        way_failures=given.way_failures,
        engine_failures=given.engine_failures,
        refusals=given.refusals,
        ejection_s=given.ejection_s,
        max_ejection_s=given.max_ejection_s,
        slow_start_s=given.slow_start_s,
    )
