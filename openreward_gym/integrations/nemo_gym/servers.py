"""The agent and the resources server with which NeMo Gym plays OpenReward environments. This module needs `nemo-gym`.

The resources server has a session per rollout, which NeMo Gym's session cookie names. The agent asks it for the prompt and the
tools, sends the model's answers to it until the episode is over, and asks it for the reward:

    /run (agent) -> /seed_session, then per turn /v1/responses (model) and /step, then /verify

A failure of the environment's infrastructure is the status 503 of every one of these requests. The agent plays the row again, and
after its last attempt answers `/run` with that status, which NeMo Gym takes for a rollout that did not run: it has no reward.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from fastapi import Body, FastAPI, HTTPException, Request, Response
from nemo_gym.base_resources_server import (
    BaseResourcesServerConfig,
    BaseRunRequest,
    BaseSeedSessionRequest,
    BaseSeedSessionResponse,
    BaseVerifyRequest,
    BaseVerifyResponse,
    SimpleResourcesServer,
)
from nemo_gym.base_responses_api_agent import BaseResponsesAPIAgentConfig, SimpleResponsesAPIAgent
from nemo_gym.config_types import AggregateMetrics, AggregateMetricsRequest, ModelServerRef, ResourcesServerRef
from nemo_gym.openai_utils import NeMoGymResponse, NeMoGymResponseCreateParamsNonStreaming
from nemo_gym.server_utils import SESSION_ID_KEY, get_response_json, raise_for_status
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from openreward_gym.envs.episode import FAILURES, as_message
from openreward_gym.errors import ConfigurationError, OpenRewardGymError
from openreward_gym.importers.nemo_gym_items import with_tokens
from openreward_gym.importers.nemo_gym_rows import new_request
from openreward_gym.importers.nemo_gym_valid import ValidItems
from openreward_gym.integrations.episode import Answer, Episode, Episodes
from openreward_gym.types import AssistantMessage, Json

_BODY: Any = Body()
UNAVAILABLE = 503
"""Status of a failure of infrastructure: to NeMo Gym, the rollout did not run."""

FIRST_WAIT_S = 0.5
"""Longest wait before the second attempt at a rollout. Each further one is twice as long."""


class SeedRequest(BaseSeedSessionRequest):
    """A row of `nemo_gym.write_dataset`. `environment` and `split` are those of the configuration where a row has none."""

    model_config = ConfigDict(extra="allow")

    environment: str | None = None
    split: str | None = None
    task_index: int | None = None
    task_spec: dict[str, Any] | None = None


class SeedResponse(BaseSeedSessionResponse):
    """The request of the model's first turn."""

    input: list[dict[str, Any]]
    tools: list[dict[str, Any]]


class StepRequest(BaseModel):
    """A response of the model."""

    response: dict[str, Any]


class StepResponse(BaseModel):
    """What follows it: items for the conversation, the reward (None if there was none), and whether the episode is over."""

    output: list[dict[str, Any]]
    reward: float | None
    done: bool


class VerifyRequest(BaseVerifyRequest):
    """A played row. `stop_reason` says why the agent ends an episode that is not over."""

    model_config = ConfigDict(extra="allow")

    stop_reason: str = "max_steps"


class VerifyResponse(BaseVerifyResponse):
    """A played row with its reward."""

    model_config = ConfigDict(extra="allow")

    terminated: bool
    truncated: bool
    info: dict[str, Any]


class OpenRewardResourcesServerConfig(BaseResourcesServerConfig):
    """The configuration of `OpenRewardResourcesServer`.

    Attributes:
        environment: Name of the environment of rows that name none.
        base_url: URL of its server. None takes `OPENREWARD_URL`, or the platform.
        output: Folder of the run in which the rollouts are recorded. None records nothing.
        options: Further options of `openreward_gym.integrations.Episodes`.
        idle_timeout_s: Seconds without a request after which a session is closed. An agent that was killed closes none.
    """

    environment: str | None = None
    base_url: str | None = None
    output: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    idle_timeout_s: float = 3600.0


@dataclass
class _Session:
    episode: Episode
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    used_at: float = field(default_factory=time.monotonic)
    _items: ValidItems = field(default_factory=ValidItems)
    _written: int = 0

    def items_of(self, response: list[dict[str, Any]], answer: Answer) -> list[dict[str, Any]]:
        """Return the messages of an answer as items that may follow the items of the model's response."""
        self._items.add(response, self._written)
        output: list[dict[str, Any]] = []
        for message in answer.messages:
            self._written += 1
            output += self._items.write(message, self._written, at_end=answer.done)
        self._written += 1
        return output


class OpenRewardResourcesServer(SimpleResourcesServer):
    """A resources server of NeMo Gym whose sessions are episodes of OpenReward environments.

    The `app.py` that `nemo_gym.write_servers` writes runs it:

        if __name__ == "__main__":
            OpenRewardResourcesServer.run_webserver()
    """

    ray_enabled: ClassVar[bool] = False
    config: OpenRewardResourcesServerConfig
    _sources: dict[tuple[str, str | None], Episodes] = PrivateAttr(default_factory=dict)
    _sessions: dict[str, _Session] = PrivateAttr(default_factory=dict)

    def setup_webserver(self) -> FastAPI:
        """Return the application.

        Raises:
            ConfigurationError: The configuration asks for several workers, or has a wrong option.
        """
        if self.config.num_workers not in (None, 1):
            raise ConfigurationError("sessions live in one process: leave num_workers out")
        self._source(self.config.environment or "environment", None)  # checks the options
        app = super().setup_webserver()
        app.post("/step")(self.step)
        app.post("/close")(self.close)
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(running: FastAPI) -> AsyncIterator[Any]:
            async with inner(running) as state:
                yield state
            for name in list(self._sessions):
                await self._close(name)

        app.router.lifespan_context = lifespan
        return cast(FastAPI, app)

    def _source(self, environment: str, split: str | None) -> Episodes:
        key = (environment, split)
        if key not in self._sources:
            options = {"base_url": self.config.base_url, "output": self.config.output, **self.config.options}
            if split is not None:
                options["split"] = split
            self._sources[key] = Episodes(environment, **options)
        return self._sources[key]

    async def seed_session(self, request: Request, body: SeedRequest) -> SeedResponse:
        """Open a session on the row's task. A session of the same cookie is closed before."""
        await self._close_idle()
        environment = body.environment or self.config.environment
        task = body.task_index if body.task_index is not None else body.task_spec
        if environment is None or task is None:
            raise HTTPException(422, "a row must have `environment` and `task_index` or `task_spec`: see nemo_gym.write_dataset")
        name = request.session[SESSION_ID_KEY]
        await self._close(name)
        extra = body.model_extra or {}
        group, sample = extra.get("_ng_task_index"), extra.get("_ng_rollout_index")
        with _failures():
            episode = self._source(environment, body.split).episode()
            self._sessions[name] = _Session(episode)
            try:
                await episode.begin(task, group=None if group is None else str(group), sample=sample)
                # A block that no item can carry is an error here, before the model is asked.
                return SeedResponse(**new_request(episode.transcript, episode.tool_set))
            except BaseException:
                await self._close(name)
                raise

    async def step(self, request: Request, body: StepRequest) -> StepResponse:
        """Play a response of the model."""
        session = self._session(request)
        async with session.lock:
            with _failures():
                answer = await session.episode.act(_message(body.response))
            if session.episode.reward is None:
                raise _unavailable(session.episode)
            output = session.items_of(body.response.get("output") or [], answer)
            return StepResponse(output=output, reward=answer.reward, done=answer.done)

    async def verify(self, request: Request, body: VerifyRequest) -> VerifyResponse:
        """End the episode if it is not over, and return the row with the episode's reward."""
        session = self._session(request)
        async with session.lock:
            episode = session.episode
            await episode.end(body.stop_reason)
            reward, rollout = episode.reward, episode.rollout
            await self._close(request.session[SESSION_ID_KEY])
        if reward is None or rollout is None:
            raise _unavailable(episode)
        return VerifyResponse(
            **body.model_dump(exclude={"stop_reason"}),
            reward=reward,
            terminated=rollout.status == "completed",
            truncated=rollout.status == "truncated",
            info={"stop_reason": rollout.stop_reason, "rollout_id": rollout.id, "turns": episode.turns},
        )

    async def close(self, request: Request) -> dict[str, Any]:
        """Close the session of the cookie. An episode that is not over is recorded as cancelled."""
        await self._close(request.session[SESSION_ID_KEY])
        return {}

    def _session(self, request: Request) -> _Session:
        session = self._sessions.get(request.session[SESSION_ID_KEY])
        if session is None:
            raise HTTPException(409, "this cookie has no open session: POST /seed_session first, and send its cookie along")
        session.used_at = time.monotonic()
        return session

    async def _close(self, name: str) -> None:
        session = self._sessions.pop(name, None)
        if session is not None:
            with suppress(OpenRewardGymError):  # the server forgets the session by itself
                await session.episode.aclose()

    async def _close_idle(self) -> None:
        before = time.monotonic() - self.config.idle_timeout_s
        for name in [name for name, session in self._sessions.items() if session.used_at < before]:
            await self._close(name)


class OpenRewardAgentConfig(BaseResponsesAPIAgentConfig):
    """The configuration of `OpenRewardAgent`.

    Attributes:
        resources_server, model_server: The other two servers.
        max_steps: Largest number of the model's turns. None sets no limit.
        attempts: Largest number of attempts at a rollout that infrastructure spoils.
    """

    resources_server: ResourcesServerRef
    model_server: ModelServerRef
    max_steps: int | None = Field(default=None, ge=1)
    attempts: int = Field(default=3, ge=1)


class RunRequest(BaseRunRequest):
    """A row of `nemo_gym.write_dataset`, with the numbers that NeMo Gym gives it."""

    model_config = ConfigDict(extra="allow")


class OpenRewardAgent(SimpleResponsesAPIAgent):
    """An agent of NeMo Gym that plays the sessions of `OpenRewardResourcesServer` with a model.

    The prompt and the tools are the session's; all other parameters of the request are the row's. The items of the response are
    the model's own, with the token ids and log-probabilities that the model's server gives for training, and between them the
    environment's.

        if __name__ == "__main__":
            OpenRewardAgent.run_webserver()
    """

    ray_enabled: ClassVar[bool] = False
    config: OpenRewardAgentConfig

    async def responses(
        self, request: Request, response: Response, body: NeMoGymResponseCreateParamsNonStreaming = _BODY
    ) -> NeMoGymResponse:
        """Pass a request on to the model's server."""
        answer, cookies = await self._post(self.config.model_server.name, "/v1/responses", body, dict(request.cookies))
        for name, value in cookies.items():
            response.set_cookie(name, value)
        return NeMoGymResponse.model_validate(answer)

    async def run(self, request: Request, body: RunRequest) -> VerifyResponse:
        """Play a row, up to `attempts` times where infrastructure spoils it."""
        for attempt in range(1, self.config.attempts):
            try:
                return await self._attempt(request, body)
            except HTTPException as error:
                if error.status_code != UNAVAILABLE:
                    raise
                await asyncio.sleep(FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
        return await self._attempt(request, body)

    async def _attempt(self, request: Request, body: RunRequest) -> VerifyResponse:
        resources = self.config.resources_server.name
        row = body.model_dump()
        seed, cookies = await self._post(resources, "/seed_session", row, dict(request.cookies))
        try:
            given = body.responses_create_params.model_dump(exclude_unset=True)
            params = NeMoGymResponseCreateParamsNonStreaming.model_validate({**given, **seed})
            response, cookies = await self._play(params, body, cookies)
            played = {**row, "responses_create_params": params.model_dump(exclude_unset=True), "response": response}
            verified, _ = await self._post(resources, "/verify", played, cookies)
        except BaseException:
            with suppress(Exception):  # the error before it is the one to report
                await self._post(resources, "/close", {"reason": "failed"}, cookies)
            raise
        answer: VerifyResponse = VerifyResponse.model_validate(verified)
        return answer

    async def _play(
        self, params: NeMoGymResponseCreateParamsNonStreaming, body: RunRequest, cookies: dict[str, str]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Ask the model until the episode is over. Return its response with the items of all turns."""
        request = params.model_dump(exclude_unset=True)
        url_of_run = getattr(self, "url_path_for_run", None)  # since NeMo Gym 0.5
        path = "/v1/responses" if url_of_run is None else url_of_run("/v1/responses", body)
        items: list[dict[str, Any]] = []
        usage: dict[str, Any] | None = None
        of_model: dict[str, str] = {}
        turn = 0
        while True:
            turn += 1
            asked = {**request, "input": [*request["input"], *items]}
            answer, of_model = await self._post(self.config.model_server.name, path, asked, of_model)
            response = NeMoGymResponse.model_validate(answer).model_dump(mode="json")
            usage = _sum(usage, response.get("usage"))
            step, cookies = await self._post(self.config.resources_server.name, "/step", {"response": response}, cookies)
            items += [*response["output"], *step["output"]]
            if step["done"] or turn == self.config.max_steps:
                return {**response, "output": items, "usage": usage}, cookies

    async def _post(self, server: str, path: str, data: Any, cookies: dict[str, str]) -> tuple[Any, dict[str, str]]:
        """Send a request to another server. Return the answer, and the cookies with those of the answer."""
        answer = await self.server_client.post(server_name=server, url_path=path, json=data, cookies=cookies)
        if answer.status == UNAVAILABLE:
            raise HTTPException(UNAVAILABLE, (await answer.content.read()).decode(errors="replace")[:2000])
        await raise_for_status(answer)
        return await get_response_json(answer), {**cookies, **{name: cookie.value for name, cookie in answer.cookies.items()}}

    async def aggregate_metrics(self, body: AggregateMetricsRequest = _BODY) -> AggregateMetrics:
        """Return the resources server's metrics of rows."""
        answer, _ = await self._post(self.config.resources_server.name, "/aggregate_metrics", body, {})
        return AggregateMetrics.model_validate(answer)


@contextmanager
def _failures() -> Iterator[None]:
    """Turn the errors of a block into the statuses that NeMo Gym understands."""
    try:
        yield
    except FAILURES as error:
        raise HTTPException(UNAVAILABLE, str(error)) from None
    except OpenRewardGymError as error:
        raise HTTPException(422, str(error)) from None


def _unavailable(episode: Episode) -> HTTPException:
    reason = episode.error or "the answer was withheld"
    return HTTPException(UNAVAILABLE, f"the episode has no reward, because it ended with {episode.stop_reason!r}: {reason}")


def _message(response: Mapping[str, Json]) -> AssistantMessage:
    """Return the message of a response, with the token ids of its items."""
    message = as_message(dict(response))
    items = response.get("output")
    (read,) = with_tokens([message], items if isinstance(items, list) else [])
    return message.replace(blocks=read.blocks, sampled=read.sampled)


def _sum(total: dict[str, Any] | None, usage: Any) -> dict[str, Any] | None:
    """Return the sum of two usages. A count that one of them does not have is not known."""
    if not isinstance(usage, dict):
        return total
    if total is None:
        return usage
    summed: dict[str, Any] = {}
    for name, value in total.items():
        other = usage.get(name)
        if isinstance(value, dict) or isinstance(other, dict):
            summed[name] = _sum(value, other)
        else:
            summed[name] = None if value is None or other is None else value + other
    return summed
