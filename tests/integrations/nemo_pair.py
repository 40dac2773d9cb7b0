"""Serves agents and resources servers with NeMo Gym's own classes: `python nemo_pair.py CONFIGURATION.json`.

The configuration is NeMo Gym's global one, with a host and a port for each server. The program prints "ready", and ends when its
input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import uvicorn
from nemo_gym.config_types import BaseServerConfig
from nemo_gym.server_utils import ServerClient
from omegaconf import OmegaConf

from openreward_gym.integrations.nemo_gym.servers import (
    OpenRewardAgent,
    OpenRewardAgentConfig,
    OpenRewardResourcesServer,
    OpenRewardResourcesServerConfig,
)

KINDS: dict[str, tuple[Any, Any]] = {
    "resources_servers": (OpenRewardResourcesServer, OpenRewardResourcesServerConfig),
    "responses_api_agents": (OpenRewardAgent, OpenRewardAgentConfig),
}


def main() -> None:
    configuration = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    os.environ["NEMO_GYM_CONFIG_DICT"] = json.dumps(configuration)  # as NeMo Gym gives it to the servers that it starts
    client = ServerClient(
        head_server_config=BaseServerConfig(**configuration["head_server"]), global_config_dict=OmegaConf.create(configuration)
    )
    servers = []
    for name, instance in configuration.items():
        for kind, by_type in instance.items():
            if kind in KINDS:
                server_class, config_class = KINDS[kind]
                (fields,) = by_type.values()
                server = server_class(config=config_class(name=name, **fields), server_client=client)
                app = server.setup_webserver()
                server.setup_exception_middleware(app)
                place = {"host": fields["host"], "port": fields["port"]}
                servers.append(uvicorn.Server(uvicorn.Config(app, **place, log_level="error", timeout_graceful_shutdown=1)))
    asyncio.run(serve(servers))


async def serve(servers: list[uvicorn.Server]) -> None:
    """Serve on one event loop, to which NeMo Gym's client is bound."""
    running = [asyncio.ensure_future(server.serve()) for server in servers]
    while not all(server.started for server in servers):  # noqa: ASYNC110  (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for server in servers:
        server.should_exit = True
    await asyncio.gather(*running)


main()
