"""Evaluate a model on an OpenReward environment with verifiers' evaluator, and record the rollouts.

openreward-gym serve weather --port 8080 &
python examples/verifiers_environment.py http://127.0.0.1:8000/v1 Qwen/Qwen3-4B
"""

import asyncio
import sys

from verifiers.v1.cli.eval.runner import run_eval
from verifiers.v1.configs.cli.eval import EvalConfig

from openreward_gym.integrations.verifiers import load_environment

url, model = sys.argv[1:3]
env = load_environment("weather", base_url="http://127.0.0.1:8080", split="test", output="runs/verifiers")
config = EvalConfig(env=env.config, model=model, client={"type": "eval", "base_url": url}, num_rollouts=4, push=False)
for episode in asyncio.run(run_eval(config)):
    for trace in episode.traces:
        print(episode.task.key, trace.reward if trace.ok else trace.last_error.type)
