"""The server's log: one JSON object per line, so that machines can read it and people can still grep."""

import json
import logging
import sys
from datetime import UTC, datetime

logger = logging.getLogger("isplit.server")


def event(what: str, /, *, level: int = logging.INFO, **fields: object) -> None:
    """Log that something happened; `fields` say what it was about."""
    logger.log(level, what, extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """A record as one line: time (UTC), level, event, then the event's fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_stderr(level: str) -> None:
    """Send the log of this process, gRPC's and Python's warnings included, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(True)
    logger.setLevel(level.upper())
