"""What an asynchronous trainer of TRL needs and this machine has not: a vLLM server, a way of the weights to it, and attention.

`VLLMStandIn` samples from a real model. `WeightsOverHTTP` sends it the trainer's weights, as NCCL sends them to vLLM.
`attention_on_cpu` computes what the trainer's FlashAttention kernel, which needs a GPU, computes for packed rows.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import torch
from safetensors.torch import load, save
from transformers import AttentionInterface


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

    @torch.no_grad()
    def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        ids, logprobs, reason = list(request["prompt"]), [], "length"
        generator = torch.Generator().manual_seed(request["seed"] % 2**63)
        with self._lock:
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


def attention_on_cpu(name: str) -> None:
    """Register attention for packed rows under the name of the trainer's kernel, which needs a GPU."""
    AttentionInterface.register(name, _tree_attention)


def _tree_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    *,
    tree_kv_index: torch.Tensor,
    tree_cu_seqlens_q: torch.Tensor,
    tree_cu_seqlens_k: torch.Tensor,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each segment of a row (queries) to its path from the row's root (keys), which ends with the segment."""
    repeats = query.shape[1] // key.shape[1]
    key, value = (one.repeat_interleave(repeats, dim=1)[0][:, tree_kv_index] for one in (key, value))
    outputs = []
    pairs = zip(tree_cu_seqlens_q.tolist(), tree_cu_seqlens_k.tolist(), strict=True)
    (start_q, start_k), *ends = pairs
    for end_q, end_k in ends:
        queries, keys = end_q - start_q, end_k - start_k
        mask = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        outputs.append(
            torch.nn.functional.scaled_dot_product_attention(
                query[0, :, start_q:end_q], key[:, start_k:end_k], value[:, start_k:end_k], attn_mask=mask, scale=scaling
            )
        )
        start_q, start_k = end_q, end_k
    return torch.cat(outputs, dim=1).transpose(0, 1)[None], None
