"""Serve an OpenReward environment to OpenEnv's clients and trainers; needs the extra `openenv`.

    openreward-gym serve weather --port 8080 &
    OPENREWARD_URL=http://127.0.0.1:8080 python examples/openenv_server.py 8000

Each session of OpenEnv is an episode, recorded as a run.
"""

import sys

import uvicorn

from openreward_gym.integrations import openenv

app = openenv.app("weather", output="runs/openenv")

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]))
