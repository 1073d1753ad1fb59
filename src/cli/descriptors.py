"""Open files: each client is one, and the limit that a shell gives is often 1,024."""

import logging

logger = logging.getLogger(__name__)

#: Below this many the operator should know: it is about how many clients can be served at a time.
FEW = 4096


def raise_open_files() -> int | None:
    """Raise the soft limit of open files to the hard one, as servers do. Returns the limit now, None if unknown."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (OSError, ValueError):  # macOS refuses what it calls unlimited
        pass
    if soft != resource.RLIM_INFINITY and soft < FEW:
        logger.warning(
            "at most %d files may be open, so about as many clients can be served at a time; "
            "raise it with `ulimit -n` or LimitNOFILE",
            soft,
        )
    return soft
