"""Evaluate a model on an OpenReward environment with Inspect; needs the extra `inspect`.

    inspect eval examples/inspect_task.py --model openai/gpt-5-mini -T base_url=http://127.0.0.1:8080 -T output=runs/inspect

Each sample is a task of the split, and its score is the reward of the episode. With `output` the episodes are
recorded as a run as well.
"""

from inspect_ai import Task, task

from openreward_gym.integrations import inspect


@task
def weather(base_url: str | None = None, output: str | None = None) -> Task:
    return inspect.task("weather", base_url=base_url, output=output)
