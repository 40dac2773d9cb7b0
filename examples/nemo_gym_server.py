"""Write a dataset and the servers with which NeMo Gym plays an OpenReward environment.

    openreward-gym serve weather --port 8080 &
    python examples/nemo_gym_server.py http://127.0.0.1:8080

NeMo Gym's own commands then start the servers and collect: see docs/how-to/train-with-nemo-gym.md.
"""

import sys

from openreward_gym.integrations import nemo_gym

base_url = sys.argv[1]
count = nemo_gym.write_dataset("data/train.jsonl", "weather", base_url=base_url, split="train")
path = nemo_gym.write_servers(".", environment="weather", base_url=base_url, output="runs/nemo", max_steps=8)
print(f"{count} rows, and the configuration {path}")
