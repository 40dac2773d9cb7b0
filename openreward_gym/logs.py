"""Log lines in the form that the official SDK's variables ask for. Only programs set this up, never an import."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from openreward_gym.variables import build_sha, log_level, use_structured_logs

__all__ = ["StructuredFormatter", "set_up_logging"]

_ROOT = "openreward_gym"


class StructuredFormatter(logging.Formatter):
    """Formats a log line as an object of JSON, with the keys of the official SDK.

    Example:
        >>> record = logging.LogRecord("openreward_gym.upload", logging.WARNING, "", 0, "no answer", None, None)
        >>> json.loads(StructuredFormatter().format(record))["severity"]
        'WARNING'
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        line = {"logger_name": record.name, "timestamp": time, "message": record.getMessage(), "severity": record.levelname}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if sha := build_sha():
            line["build_sha"] = sha
        return json.dumps(line)


def set_up_logging() -> None:
    """Show this package's log lines as `OPENREWARD_USE_STRUCTURED_LOGS`, `OPENREWARD_LOG_LEVEL` and `LOG_LEVEL` say.

    It changes nothing if none of them is set. Handlers that the program has set up itself are left alone.
    """
    level, is_structured = log_level(), use_structured_logs()
    if level is None and not is_structured:
        return
    logger = logging.getLogger(_ROOT)
    logger.setLevel(logging.INFO if level is None else level)
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler(sys.stdout if is_structured else sys.stderr)
    handler.setFormatter(StructuredFormatter() if is_structured else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
