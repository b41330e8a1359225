"""Write the server's log as one JSON object per line, for machines and for grep."""

import json
import logging
import sys
import threading
from datetime import UTC, datetime

logger = logging.getLogger("isplit.server")


def event(what: str, /, *, level: int = logging.INFO, **fields: object) -> None:
    """Log an event with its fields."""
    logger.log(level, what, extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """Formats a record as one line: time (UTC), level, event, and the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its newline."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _log_thread(arguments: threading.ExceptHookArgs) -> None:
    """Log an exception that ended a thread; Python itself would print it between the lines of the log."""
    if arguments.exc_value is not None:
        name = arguments.thread.name if arguments.thread else "unknown"
        logger.error("a thread ended", exc_info=arguments.exc_value, extra={"fields": {"thread": name}})


def log_to_stderr(level: str) -> None:
    """Send the log of this process to standard error, including Python's warnings and the logs of other libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    threading.excepthook = _log_thread
    logger.setLevel(level.upper())
