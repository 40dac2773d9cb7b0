"""Servers that typed pages use, as programs: `vllm serve MODEL --port N`, and `hub FILE`, which writes its address to FILE."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("servers", "export")]


def main(command: str, *arguments: str) -> None:
    """Serve until this process is ended."""
    if command == "hub":
        from hub_stand_in import Hub

        hub = Hub()
        Path(arguments[0]).write_text(hub.url, encoding="utf-8")
        hub.serve_forever()
        return
    import uvicorn
    from providers import Providers

    port = int(arguments[arguments.index("--port") + 1])
    uvicorn.run(Providers().app, host="127.0.0.1", port=port, log_level="warning")


main(*sys.argv[1:])
