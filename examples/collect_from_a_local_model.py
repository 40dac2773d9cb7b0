"""Collect rollouts from a model on any OpenAI-compatible server (vLLM, SGLang, llama.cpp, `transformers serve`, ...).

vllm serve Qwen/Qwen3-4B --port 8000 --enable-auto-tool-choice --tool-call-parser hermes &
python examples/collect_from_a_local_model.py --model Qwen/Qwen3-4B --policy-url http://127.0.0.1:8000/v1
"""

from __future__ import annotations

import argparse

from openreward_gym import collect, serve

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="Qwen/Qwen3-4B")
parser.add_argument("--policy-url", default="http://127.0.0.1:8000/v1")
parser.add_argument("--repeats", type=int, default=4)
parser.add_argument("--output", default="runs/local-model")
options = parser.parse_args()

with serve.local(["weather"]) as base_url:
    result = collect(
        "weather",
        f"openai:{options.model}",
        policy_url=options.policy_url,
        policy_options={"temperature": 1.0, "max_tokens": 1024},
        base_url=base_url,
        repeats=options.repeats,
        advantages="group",
        episode_timeout_s=300,
        output=options.output,
    )
print(result.metrics.to_text())
print(result.coverage)
