"""`vllm serve MODEL --port N ...` for the typed pages: the stand-in for providers, on the port that the command names."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "servers"))

import uvicorn
from providers import Providers

command, model, port_option, port, *_ = sys.argv[1:]
assert (command, port_option) == ("serve", "--port"), sys.argv
uvicorn.run(Providers().app, host="127.0.0.1", port=int(port), log_level="warning")
