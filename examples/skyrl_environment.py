"""Step a text environment of skyrl-gym that plays an OpenReward environment, and record the rollout.

    openreward-gym serve weather --port 8080 &
    python examples/skyrl_environment.py http://127.0.0.1:8080

It needs the extras `server` and `skyrl`. A training with SkyRL makes the same environments from the same rows: see
docs/how-to/train-with-skyrl.md.
"""

import sys

import skyrl_gym

from openreward_gym.integrations import skyrl

skyrl.register(output="runs/skyrl")
(row,) = skyrl.rows("weather", limit=1, base_url=sys.argv[1])
environment = skyrl_gym.make("openreward", extras={**row, "max_turns": 4})
messages, _ = environment.init(row["prompt"])
for answer in ('<tool_call>{"name": "get_weather", "arguments": {"city": "Seattle"}}</tool_call>', "It is 10 degrees and rainy."):
    output = environment.step(answer)
    print(output["observations"], output["reward"], output["done"])
environment.close()
