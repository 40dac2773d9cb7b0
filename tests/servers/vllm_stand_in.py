"""Stand-ins for what the asynchronous trainer of TRL needs a GPU for: the vLLM server, the transfer of weights, and a kernel.

`VLLMStandIn` samples from a real model. `WeightsOverHTTP` sends it the trainer's weights, as NCCL sends them to vLLM.
`without_a_gpu` gives the trainer the name of a device, and attention that computes what its FlashAttention kernel computes for
packed rows.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec
from typing import Any
from unittest import mock

import httpx
import torch
from safetensors.torch import load, save


class VLLMStandIn:
    """A server with the endpoints of vLLM that are used, and `PUT /weights`. Sampling waits while it is paused.

    Attributes:
        max_model_len: Length of the context in tokens.
        updates: Number of updates of the weights.
        sampled: Number of sampled turns.
        refuse: Number of requests for completions that are answered by status 503 before the others are answered.
    """

    def __init__(self, model: Any, tokenizer: Any, max_model_len: int = 512) -> None:
        self.model = model
        self.stop_ids = {tokenizer.eos_token_id}
        self.max_model_len = max_model_len
        self.updates = 0
        self.sampled = 0
        self.refuse = 0
        self.running = threading.Event()
        self.running.set()
        self._lock = threading.Lock()

    def __enter__(self) -> VLLMStandIn:
        handler = type("Bound", (_Handler,), {"held": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(self, *exception: object) -> None:
        self.running.set()
        self._server.shutdown()
        self._server.server_close()

    def update(self, weights: bytes) -> None:
        with self._lock, torch.no_grad():
            parameters = dict(self.model.named_parameters())
            for name, tensor in load(weights).items():
                parameters[name].copy_(tensor)
        self.updates += 1

    def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        ids, logprobs, reason = list(request["prompt"]), [], "length"
        generator = torch.Generator().manual_seed(request["seed"])
        with self._lock, torch.no_grad():
            self.sampled += 1
            for _ in range(request["max_tokens"]):
                logits = self.model(torch.tensor([ids])).logits[0, -1].float() / request["temperature"]
                token = int(torch.multinomial(logits.softmax(-1), 1, generator=generator))
                ids.append(token)
                logprobs.append(float(logits.log_softmax(-1)[token]))
                if token in self.stop_ids:
                    reason = "stop"
                    break
        answer = {"token_ids": ids[len(request["prompt"]) :], "logprobs": {"token_logprobs": logprobs}, "finish_reason": reason}
        return {"choices": [answer]}


class _Handler(BaseHTTPRequestHandler):
    held: VLLMStandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({"data": [{"id": "model", "max_model_len": self.held.max_model_len}]})

    def do_PUT(self) -> None:
        self.held.update(self._body())
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        path = self.path.partition("?")[0]
        if path == "/pause":
            self.held.running.clear()
        elif path == "/resume":
            self.held.running.set()
        elif self.held.refuse > 0:
            self.held.refuse -= 1
            self._answer({"error": "busy"}, 503)
            return
        else:
            self.held.running.wait()
            self._answer(self.held.complete(json.loads(body)))
            return
        self._answer({})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, value: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(value).encode()
        with contextlib.suppress(ConnectionError):  # the client has gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class WeightsOverHTTP:
    """A weight transfer of `AsyncGRPOTrainer` (`WeightTransferProtocol`) that puts the weights to the stand-in."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=60.0)

    def init_weight_transfer(self) -> None:
        self._client.get("/health").raise_for_status()

    def pause(self) -> None:
        self._client.post("/pause", params={"mode": "keep"}).raise_for_status()

    def send_weights(self, iterator: Iterator[tuple[str, torch.Tensor]]) -> None:
        weights = {name: tensor.contiguous().clone() for name, tensor in iterator}
        self._client.put("/weights", content=save(weights)).raise_for_status()

    def resume(self) -> None:
        self._client.post("/resume").raise_for_status()

    def destroy(self) -> None:
        self._client.close()


@contextlib.contextmanager
def without_a_gpu() -> Iterator[None]:
    """Let `AsyncGRPOTrainer` be made and train on a CPU inside the block."""
    kernels: Any = types.ModuleType("kernels")
    kernels.__spec__ = ModuleSpec("kernels", None)
    kernels.get_kernel = lambda *_, **__: types.SimpleNamespace(flash_attn_varlen_func=flash_attn_varlen_func)
    with (
        mock.patch.object(torch.cuda, "get_device_name", return_value="CPU"),
        mock.patch.dict(sys.modules, {"kernels": kernels}),
    ):
        yield


def flash_attn_varlen_func(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends_q: torch.Tensor,
    ends_k: torch.Tensor,
    *_: int,
    softmax_scale: float | None = None,
    **options: Any,
) -> torch.Tensor:
    """Return causal attention of several sequences in a row, of shape (tokens, heads, size), whose keys may be longer."""
    repeats = query.shape[1] // key.shape[1]
    query, key, value = (one.transpose(0, 1) for one in (query, key, value))
    outputs = []
    bounds = list(zip(ends_q.tolist(), ends_k.tolist(), strict=True))
    for (start_q, start_k), (end_q, end_k) in itertools.pairwise(bounds):
        queries, keys = end_q - start_q, end_k - start_k
        mask = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        outputs.append(
            torch.nn.functional.scaled_dot_product_attention(
                query[:, start_q:end_q],
                key[:, start_k:end_k].repeat_interleave(repeats, dim=0),
                value[:, start_k:end_k].repeat_interleave(repeats, dim=0),
                attn_mask=mask,
                scale=softmax_scale,
            )
        )
    return torch.cat(outputs, dim=1).transpose(0, 1)
