"""Play one task with a model on OpenRouter (or any OpenAI-compatible server) and record it.

    OPENROUTER_API_KEY=... OPENREWARD_API_KEY=... python examples/record_rollout_openai.py

This is the program of OpenReward's documentation, with another import of `OpenReward`. It records into
runs/openrouter-ctf-rollouts and, if OPENREWARD_API_KEY is set, on the platform.
"""

# mypy: disable-error-code="union-attr,arg-type"
# (the documentation's program is not written for a type checker)

import json
import os

from openai import OpenAI

from openreward_gym.compat import OpenReward

or_client = OpenReward()
oai_client = OpenAI(base_url="https://openrouter.ai/api/v1", api_key=os.environ.get("OPENROUTER_API_KEY"))
MODEL_NAME = "deepseek/deepseek-v3.2"

environment = or_client.environments.get(name="GeneralReasoning/CTF")
tasks = environment.list_tasks(split="train")
tools = environment.list_tools(format="openrouter")

example_task = tasks[0]

# Create a rollout to record this episode
rollout = or_client.rollout.create(
    run_name="openrouter-ctf-rollouts",
    rollout_name="episode-0",
    environment="GeneralReasoning/CTF",
    split="train",
    metadata={"model": MODEL_NAME},
    task_spec=example_task.task_spec,
)

with environment.session(task=example_task) as session:
    prompt = session.get_prompt()
    input_list = [{"role": "user", "content": prompt[0].text}]
    finished = False

    # Log the initial user prompt
    rollout.log_openai_completions(input_list[0])

    while not finished:
        response = oai_client.chat.completions.create(model=MODEL_NAME, tools=tools, messages=input_list)
        assistant_msg = response.choices[0].message
        input_list.append(assistant_msg)

        # Log the assistant response (handles text + tool calls)
        rollout.log_openai_completions(
            {"role": "assistant", "content": assistant_msg.content, "tool_calls": assistant_msg.tool_calls}
        )

        tool_calls = assistant_msg.tool_calls
        if not tool_calls:
            break

        for tool_call in tool_calls:
            tool_name = tool_call.function.name
            tool_args = json.loads(tool_call.function.arguments)

            tool_result = session.call_tool(tool_name, tool_args)

            reward = tool_result.reward
            finished = tool_result.finished

            tool_msg = {
                "role": "tool",
                "tool_call_id": tool_call.id,
                "content": json.dumps({"result": tool_result.blocks[0].text}),
            }
            input_list.append(tool_msg)

            # Log the tool result with reward info
            rollout.log_openai_completions(tool_msg, reward=reward, is_finished=finished)

            if finished:
                break

# Flush all pending events
or_client.rollout.close()
print("Rollout recorded successfully!")
