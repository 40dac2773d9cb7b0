"""A stand-in of Tinker's service with a model in this process: `python tinker_stand_in.py PROGRAM ARGUMENTS` runs a program
with it.

The model is read from the folder that the program names; "-" reads the program from the standard input. The clients have the
methods that tinker-cookbook's trainer calls. They sample with the model's weights of the moment, and train them.
"""

from __future__ import annotations

import os
import runpy
import sys
from typing import Any

import tinker
import torch
from tinker.types import TensorData
from transformers import AutoModelForCausalLM

MOST_TOKENS = int(os.environ.get("STAND_IN_MAX_TOKENS", "1024"))
"""Largest number of tokens of a sample: a random model does not stop by itself."""


class Ready:
    """A result that is there, in the form of a future and of an object with attributes."""

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    async def result_async(self) -> Ready:
        return self


class Sampling:
    """A stand-in of `tinker.SamplingClient`."""

    def __init__(self, model: Any) -> None:
        self.model = model

    async def sample_async(self, prompt: Any, num_samples: int, sampling_params: Any) -> Ready:
        ids = torch.tensor([prompt.to_ints()])
        with torch.no_grad():
            output = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=min(sampling_params.max_tokens, MOST_TOKENS),
                do_sample=True,
                top_k=0,
                temperature=sampling_params.temperature,
                eos_token_id=list(sampling_params.stop),
                pad_token_id=sampling_params.stop[0],
                return_dict_in_generate=True,
                output_scores=True,
            )
        tokens = output.sequences[0, ids.shape[1] :].tolist()
        logprobs = [
            torch.log_softmax(score[0].float(), -1)[token].item() for score, token in zip(output.scores, tokens, strict=True)
        ]
        reason = "stop" if tokens[-1] in sampling_params.stop else "length"
        return Ready(sequences=[Ready(tokens=tokens, logprobs=logprobs, stop_reason=reason)])


class Training:
    """A stand-in of `tinker.TrainingClient`."""

    def __init__(self, folder: str) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.model = AutoModelForCausalLM.from_pretrained(folder)
        self.optimizer = torch.optim.Adam(self.model.parameters())

    async def forward_backward_async(self, data: Any, loss_fn: str, loss_fn_config: Any = None) -> Ready:
        assert loss_fn == "importance_sampling"
        outputs, total = [], torch.zeros(())
        for datum in data:
            inputs = {name: tensor.to_torch() for name, tensor in datum.loss_fn_inputs.items()}
            logits = self.model(torch.tensor([datum.model_input.to_ints()])).logits[0].float()
            logprobs = torch.log_softmax(logits, -1).gather(-1, inputs["target_tokens"].long().unsqueeze(-1)).squeeze(-1)
            total = total - ((logprobs - inputs["logprobs"]).exp() * inputs["advantages"]).sum()
            outputs.append({"logprobs": TensorData.from_torch(logprobs.detach())})
        total.backward()
        return Ready(loss_fn_outputs=outputs, metrics={"loss:sum": total.item()})

    async def optim_step_async(self, parameters: Any) -> Ready:
        for group in self.optimizer.param_groups:
            group["lr"] = parameters.learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Ready(metrics={})

    async def save_state_async(self, name: str, **_: Any) -> Ready:
        return Ready(path=f"tinker://stand-in/weights/{name}")

    async def save_weights_for_sampler_async(self, name: str, **_: Any) -> Ready:
        return Ready(path=f"tinker://stand-in/sampler_weights/{name}")

    async def save_weights_and_get_sampling_client_async(self, *_: Any, **__: Any) -> Sampling:
        return Sampling(self.model)

    def create_sampling_client(self, *_: Any, **__: Any) -> Sampling:
        return Sampling(self.model)


class Service:
    """A stand-in of `tinker.ServiceClient`."""

    def __init__(self, **_: Any) -> None:
        pass

    async def create_lora_training_client_async(self, base_model: str, **_: Any) -> Training:
        return Training(base_model)


def main(program: str, *arguments: str) -> None:
    tinker.ServiceClient = Service
    sys.argv = [program, *arguments]
    if program == "-":
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})
    else:
        runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
