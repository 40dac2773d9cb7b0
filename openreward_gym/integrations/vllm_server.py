"""Token ids sampled by a vLLM server, for training loops that sample from exact ids and need the log-probabilities."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from openreward_gym.checks import integer
from openreward_gym.errors import PolicyError
from openreward_gym.hiding import excerpt
from openreward_gym.types import Ended
from openreward_gym.urls import check_url, without_credentials

RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
LONGEST_WAIT_S = 16.0


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """What a model sampled for one turn.

    Attributes:
        ids: The sampled token ids, with the end token if one was sampled.
        logprobs: The log-probability of each id.
        ended: "length" if the limit of tokens ended the turn, else "stop".

    Example:
        >>> SampledTokens([5, 2], [-0.1, -0.7], "stop").ids
        [5, 2]
    """

    ids: list[int]
    logprobs: list[float]
    ended: Ended


class VLLMServer:
    """A client of a vLLM server's completions with token ids on both sides.

    Requests that fail by the connection or by a status like 503 are sent again, with waits of up to 16 seconds.

    Args:
        url: URL of the server, such as "http://localhost:8000".
        model: Name under which the server has the model.
        sampling: Parameters of each request: `temperature`, `top_p`, `top_k`, ...
        timeout_s: Longest duration of a request in seconds.
        attempts: Number of attempts per request.

    Example:
        >>> server = VLLMServer("http://localhost:8000", "Qwen/Qwen3-0.6B", {"temperature": 1.0})
        >>> tokens = await server.sample([151644, 872], max_tokens=64)  # doctest: +SKIP
    """

    def __init__(
        self,
        url: str,
        model: str,
        sampling: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 600.0,
        attempts: int = 12,
        connections: int = 128,
    ) -> None:
        check_url("url", url)
        self.url = url.rstrip("/")
        self._shown_url = without_credentials(self.url)
        self.model = model
        self.sampling = dict(sampling or {})
        self.attempts = integer(1)("attempts", attempts)
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._client = httpx.AsyncClient(timeout=httpx.Timeout(timeout_s, connect=10.0), limits=limits)

    async def max_model_len(self) -> int | None:
        """Return the length of the model's context in tokens. None if the server does not tell."""
        body = await self._request("GET", "/v1/models")
        models = body.get("data")
        length = models[0].get("max_model_len") if isinstance(models, list) and models and isinstance(models[0], dict) else None
        return length if isinstance(length, int) and not isinstance(length, bool) else None

    async def sample(self, prompt_ids: Sequence[int], max_tokens: int) -> SampledTokens:
        """Sample one turn after `prompt_ids`.

        Raises:
            PolicyError: The server cannot be reached, refused the request, or did not answer with token ids.
        """
        # vLLM's engines of one server draw the same seeds for requests without one.
        request = {
            "model": self.model,
            "prompt": list(prompt_ids),
            "max_tokens": max_tokens,
            **self.sampling,
            "n": 1,
            "logprobs": 0,
            "return_token_ids": True,
            "seed": random.getrandbits(63),
        }
        body = await self._request("POST", "/v1/completions", request)
        try:
            choice = body["choices"][0]
            ids, logprobs = list(choice["token_ids"]), list(choice["logprobs"]["token_logprobs"])
        except (KeyError, IndexError, TypeError):
            ids, logprobs, choice = [], [], {}
        numbers = all(type(one) is int for one in ids) and all(isinstance(one, int | float) for one in logprobs)
        if not ids or len(ids) != len(logprobs) or not numbers:
            raise PolicyError(
                f"{self._shown_url} answered without token ids and a log-probability for each: it must be a vLLM server that knows "
                "`return_token_ids` (vLLM 0.10.2 or newer)"
            )
        return SampledTokens(ids, [float(one) for one in logprobs], "length" if choice.get("finish_reason") == "length" else "stop")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        for attempt in itertools.count(1):
            try:
                response = await self._client.request(method, f"{self.url}{path}", json=body)
                problem = f"HTTP {response.status_code}: {excerpt(response.content)}" if response.is_error else ""
                again = response.status_code in RETRIED
            except httpx.TransportError as error:
                problem, again = f"{type(error).__name__}: {error}".removesuffix(": "), True
            if not problem:
                break
            if not again or attempt >= self.attempts:
                tried = f" in {attempt} attempts" if attempt > 1 else ""
                raise PolicyError(f"the vLLM server at {self._shown_url} did not answer {path}{tried}: {problem}")
            await asyncio.sleep(random.random() * min(0.5 * 2.0 ** (attempt - 1), LONGEST_WAIT_S))
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise PolicyError(f"the vLLM server at {self._shown_url} answered {path} with something other than a JSON object")
        return answer
