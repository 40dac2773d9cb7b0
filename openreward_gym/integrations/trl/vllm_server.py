"""Token ids sampled by a vLLM server, for training loops that sample from exact ids and need the log-probabilities."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openreward_gym import jsonio
from openreward_gym.checks import integer
from openreward_gym.errors import PolicyError, ProtocolError, TransportError
from openreward_gym.hiding import excerpt
from openreward_gym.protocol.request import Headers, Request
from openreward_gym.protocol.transport import TRANSPORTS
from openreward_gym.types import Ended
from openreward_gym.urls import check_url, without_credentials

RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
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
    """A client of a vLLM server's completions, with token ids on both sides.

    A request that fails by the connection or by a status like 503 is sent again, after waits of up to 16 seconds.

    Args:
        url: URL of the server, such as "http://localhost:8000".
        model: Name under which the server has the model.
        sampling: Parameters of each request: `temperature`, `top_p`, `top_k`, ...
        timeout_s: Longest duration of a request in seconds.
        attempts: Number of attempts per request.

    Raises:
        ConfigurationError: `url` is not the URL of a server.

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
    ) -> None:
        check_url("the URL of the vLLM server", url)
        self.url = url.rstrip("/")
        self.model = model
        self.sampling = dict(sampling or {})
        self.timeout_s = timeout_s
        self.attempts = integer(1)("attempts", attempts)
        self._headers = Headers({"Accept": "application/json", "Content-Type": "application/json"})
        self._transport = TRANSPORTS["fast"](self.url)

    async def max_model_len(self) -> int | None:
        """Return the length of the model's context in tokens. None if the server does not tell.

        Raises:
            PolicyError: The server does not answer.
        """
        models = (await self._request("GET", "/v1/models")).get("data")
        length = models[0].get("max_model_len") if isinstance(models, list) and models and isinstance(models[0], dict) else None
        return length if type(length) is int else None

    async def sample(self, prompt_ids: Sequence[int], max_tokens: int) -> SampledTokens:
        """Sample one turn after `prompt_ids`.

        Raises:
            PolicyError: The server cannot be reached, refused the request, or did not answer with token ids.
        """
        request = {
            "model": self.model,
            "prompt": list(prompt_ids),
            "max_tokens": max_tokens,
            **self.sampling,
            "n": 1,
            "logprobs": 0,
            "return_token_ids": True,
            # Without a seed, the data-parallel engines of a server draw the same numbers.
            "seed": random.getrandbits(63),
        }
        body = await self._request("POST", "/v1/completions", request)
        try:
            choice: Any = body["choices"][0]
            ids, logprobs = choice["token_ids"], choice["logprobs"]["token_logprobs"]
            whole = bool(ids) and len(ids) == len(logprobs) and all(type(one) is int for one in ids)
            logprobs = [float(one) for one in logprobs]
        except (KeyError, IndexError, TypeError, ValueError, OverflowError):
            whole = False
        if not whole or not all(map(math.isfinite, logprobs)):
            raise PolicyError(
                f"{without_credentials(self.url)} answered without token ids and a log-probability for each. "
                "It must be a vLLM server that knows `return_token_ids` (vLLM 0.10.2 or newer)"
            )
        return SampledTokens(list(ids), logprobs, "length" if choice.get("finish_reason") == "length" else "stop")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        request = Request(
            method,
            self.url + path,
            self._headers,
            None if body is None else jsonio.dumps(dict(body)),
            first_byte_timeout_s=self.timeout_s,
            total_timeout_s=self.timeout_s,
        )
        for attempt in itertools.count(1):
            try:
                response = await self._transport.send(request)
                if response.status == 200:
                    break
                problem, again = f"HTTP {response.status}: {excerpt(response.body)}", response.status in RETRIED
            except TransportError as error:
                problem, again = str(error), not error.permanent
            except ProtocolError as error:
                problem, again = str(error), False
            if not again or attempt >= self.attempts:
                tried = f" in {attempt} attempts" if attempt > 1 else ""
                raise PolicyError(f"the vLLM server {without_credentials(self.url)} did not answer {path}{tried}: {problem}")
            await asyncio.sleep(random.random() * min(0.5 * 2.0 ** (attempt - 1), LONGEST_WAIT_S))
        try:
            answer = jsonio.loads(response.body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise PolicyError(
                f"the vLLM server {without_credentials(self.url)} answered {path} with {excerpt(response.body)}, "
                "which is not a JSON object"
            )
        return answer
