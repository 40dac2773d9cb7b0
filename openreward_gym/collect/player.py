"""Playing one attempt at a unit: open a session, let the policy play the episode, return its rollout or its failure."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

from openreward_gym.chat.plain import shown
from openreward_gym.collect.failure_limit import SAME_FAILURES, SlowStart, is_lasting
from openreward_gym.collect.inventory import Unit
from openreward_gym.collect.plan import RunPlan
from openreward_gym.collect.retries import Stage, failure_kind, is_deterministic
from openreward_gym.collect.rows import InputRow
from openreward_gym.collect.silence import News, ServerWatch
from openreward_gym.credentials import without_secrets
from openreward_gym.envs.clients import SharedClient
from openreward_gym.envs.env import OpenRewardEnv
from openreward_gym.envs.episode import ACTION_FORMS, FAILURES, Episode, as_message
from openreward_gym.envs.turns import TurnKind, is_no_answer
from openreward_gym.errors import (
    AuthenticationError,
    CallTimeoutError,
    ConfigurationError,
    ContextOverflowError,
    OpenRewardGymError,
    PolicyError,
    ServerError,
    StoreError,
    TaskNotFoundError,
)
from openreward_gym.policies.baselines import DONE
from openreward_gym.policies.parameters import requested
from openreward_gym.policies.policy import (
    EpisodicPolicy,
    Policy,
    Transcript,
    place_of,
    policy_name,
    policy_of_episode,
    policy_settings,
)
from openreward_gym.processes import is_out_of_files
from openreward_gym.protocol.addresses import resolve_addresses
from openreward_gym.retrying import retries_heard_by
from openreward_gym.store import Failure
from openreward_gym.store.running import RunningRollout
from openreward_gym.types import AssistantMessage, Rollout, ToolSet
from openreward_gym.urls import bare_url
from openreward_gym.user_traceback import describe_error, own_frames, traceback_text, words_of
from openreward_gym.variables import ENVIRON
from openreward_gym.wrappers.record import rollout_of

EMPTY_ANSWER = "the policy's message is empty: it has no text, no reasoning and no call, which is no answer of a model"

# Kinds of failures after which it is not known whether the server is there. After the others it gave an answer.
_UNANSWERED = frozenset(
    {"unreachable", "timeout", "outcome_unknown", "connection", "server_error", "rate_limited", "policy_unavailable"}
)
OPEN_FILES_PATIENCE_S = 30.0
"""Seconds that a rollout waits for a file to write it to, while the process has too many open files."""
NOTED_RETRIES = 5
"""Largest number of retried requests per unit that are recorded."""
LONGEST_TEXT = 4000
"""Largest number of characters that are kept of the message of a policy's exception, and of its traceback."""
# Not "Unexpected token '<'", nor the tokens and tokenizers of models.
_SECRET = re.compile(r"secret|api[_ -]?key|credential|password|(?<!unexpected )(?<!invalid )\btoken\b", re.IGNORECASE)
_SECRET_NAME = re.compile(r"\b[a-z]\w*_(?:key|token|secret|password)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """The result of an attempt: a rollout or a failure.

    Attributes:
        rollout: The rollout, which is already in the store; its messages may be missing here. None after a failure.
        step_seconds: Duration of each step in the environment.
        failure: The failure, which is not yet written to a file. None after a success.
        retry_after_s: Seconds to wait that the server or provider requests after a failure. None if it requests no wait.
        turns: What turns of the model were taken for that reached no tool, see `openreward_gym.envs.turns`.
        error: The failure as an error of this package, which is raised if it ends the run. None after a success.
        mistake: An error that is probably the same for every unit, because the caller has to change something. Without a failure
            beside it, the error ends the run.
        budget: The retry budget that a failure counts against. None: that of its kind.
    """

    rollout: Rollout | None = None
    step_seconds: list[float] = field(default_factory=list)
    failure: Failure | None = None
    retry_after_s: float | None = None
    turns: frozenset[TurnKind] = frozenset()
    error: OpenRewardGymError | None = None
    mistake: Exception | None = None
    budget: str | None = None


class Player(Protocol):
    """Plays any number of attempts at once."""

    async def play(self, unit: Unit, attempt: int) -> AttemptResult:
        """Play attempt number `attempt` at a unit, and store the rollout."""

    async def news(self) -> News:
        """Return what happened in the attempts in flight since the last call."""

    async def aclose(self) -> None:
        """Abandon the attempts in flight, and release all resources."""


class LocalPlayer:
    """Plays attempts in this process, and calls `store` with each rollout.

    Args:
        plan: The plan of the run.
        run: The run's name.
        store: Called with each rollout.
        recording: Called for each attempt: the file in which readers see its messages while it is played; None for none.
    """

    def __init__(
        self,
        plan: RunPlan,
        run: str,
        store: Callable[[Rollout], None],
        recording: Callable[[], RunningRollout] | None = None,
    ) -> None:
        self.plan = plan
        self._store = store
        self._recording = recording
        self._opening = asyncio.Semaphore(plan.options.opening)
        self._playing = asyncio.Semaphore(plan.options.concurrency)
        self._client = SharedClient(plan.options.env)
        self._idle: list[OpenRewardEnv] = []
        self.servers = Servers(plan)
        self._retried: list[Failure] = []
        self._noted: Counter[int] = Counter()
        is_open = plan.options.fail_on_error == 0
        self._first_opens, self._first_turns = (
            SlowStart(SAME_FAILURES, is_open=is_open),
            SlowStart(SAME_FAILURES, is_open=is_open),
        )
        self._run = run
        self._fields = self._fields_of(plan.policy)

    def _fields_of(self, policy: Policy | EpisodicPolicy) -> Mapping[str, Any]:
        """Return the fields of rollouts that a policy plays."""
        settings = policy_settings(policy)
        return {
            "run": self._run,
            "model": {"name": policy_name(self.plan.policy), **settings.get("model", {})},
            "sampling": settings.get("sampling") or None,
        }

    def _fields_with(self, row: InputRow, policy: Policy | EpisodicPolicy) -> Mapping[str, Any]:
        """Return the fields of rollouts of a row. A policy without settings gets the row's parameters as they are."""
        fields = self._fields if policy is self.plan.policy else self._fields_of(policy)
        if policy is not self.plan.policy and not fields["sampling"]:
            fields = {**fields, "sampling": requested(row.parameters)}
        return {**fields, "metadata": {"nemo_gym": row.data}}

    async def play(self, unit: Unit, attempt: int) -> AttemptResult:
        """Play an attempt; see `Player`."""
        env = self._idle.pop() if self._idle else self.plan.make_env(self._client)
        row, policy = unit.task.row, self.plan.policy_of(unit.task.row)
        fields = self._fields if row is None else self._fields_with(row, policy)
        playing = _Attempt(self.plan, env, unit, attempt, self.servers, self._note, policy)
        running = None if self._recording is None else self._recording()
        try:
            with retries_heard_by(playing.retried):
                async with self._opening, self._first_opens.slot():
                    await playing.open()
                    self._first_opens.open()
                # With `prefetch`, more sessions are open than are played at once.
                async with self._playing:
                    rollout = await playing.play(fields, self._first_turns, running)
            await self._keep(rollout)
            self._noted.pop(unit.number, None)
            steps = [] if env.episode is None else env.episode.steps
            turns = frozenset(step.kind for step in steps) - {"calls", "answer"}
            result = AttemptResult(rollout, [step.environment_s for step in steps], turns=turns)
        except _AttemptFailedError as error:
            result = error.result
            assert result.failure is not None
            gate = self._first_opens if result.failure.stage == "open" else self._first_turns
            gate.failed(lasting=is_lasting(result.failure))
        except BaseException:
            await env.aclose()
            raise
        finally:
            playing.leave(answered=False)
            if running is not None:
                running.remove()
        self._idle.append(env)
        return result

    async def _keep(self, rollout: Rollout) -> None:
        """Store a rollout. While no file can be opened, wait for connections that close: the rollout must not be lost."""
        ends = time.monotonic() + OPEN_FILES_PATIENCE_S
        while True:
            try:
                return self._store(rollout)
            except StoreError as error:
                if not is_out_of_files(error) or time.monotonic() >= ends:
                    raise
            await asyncio.sleep(0.5)

    def _note(self, unit: Unit, failure: Failure) -> None:
        """Record a request that is sent again. Of very many for one unit, only the first are recorded."""
        self._noted[unit.number] += 1
        if self._noted[unit.number] <= NOTED_RETRIES:
            self._retried.append(failure)

    async def news(self) -> News:
        """Return what happened in the attempts in flight; see `Player`."""
        retried, self._retried = self._retried, []
        return News(retried, [self.servers.environment.state(), self.servers.policy.state()])

    async def aclose(self) -> None:
        """Close the idle envs and the policy's connections."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(env.aclose() for env in idle))
        if callable(aclose := getattr(self.plan.policy, "aclose", None)):
            await aclose()


class Servers:
    """Watches the environment's server and the policy's."""

    def __init__(self, plan: RunPlan) -> None:
        base_url = plan.options.env.client.base_url
        self.environment = ServerWatch(lambda: bare_url(resolve_addresses(base_url, ENVIRON).sessions))
        self.policy = ServerWatch(lambda: _address_of(plan.policy))


def _address_of(policy: Policy | EpisodicPolicy) -> str:
    """Return the address of the policy's server, or else a description of the policy."""
    address = getattr(policy, "address", None) or getattr(policy, "url", None)
    if not isinstance(address, str):
        return f"the policy {policy_name(policy)}"
    return bare_url(address) if "://" in address else address


class _AttemptFailedError(Exception):
    """Ends an attempt without a rollout."""

    def __init__(self, result: AttemptResult) -> None:
        super().__init__()
        self.result = result


class _Attempt:
    """Attempt number `number` at `unit`, played in `env`. Calls `note` for the first retried request of each kind."""

    def __init__(
        self,
        plan: RunPlan,
        env: OpenRewardEnv,
        unit: Unit,
        number: int,
        servers: Servers,
        note: Callable[[Unit, Failure], None],
        policy: Policy | EpisodicPolicy,
    ) -> None:
        self.env = env
        self.unit = unit
        self.number = number
        # Independent of the order in which units are played.
        self.seed = zlib.crc32(f"{plan.options.seed}/{unit.id}".encode())
        self._policy = policy
        self._name = policy_name(plan.policy)
        self._retries = plan.options.retries or {}
        self._row_prompt = plan.options.row_prompt
        self._secrets = plan.options.env.session.secrets_env or {}
        self._redactor = plan.redactor
        self._timeout_s = plan.options.env.limits.episode_timeout_s
        self._stop_reason: str | None = None
        self._servers = servers
        self._note = note
        self._noted: set[str] = set()
        self._stage: Stage = "open"
        self._request: ServerWatch | None = None

    def enter(self, stage: Stage) -> None:
        """Note that the attempt waits for the policy from now on, or for the environment; before, it got an answer."""
        self.leave(answered=True)
        self._stage = stage
        self._request = self._servers.policy if stage == "policy" else self._servers.environment
        self._request.begin()

    def leave(self, *, answered: bool, error: str = "") -> None:
        """Note that the attempt waits no longer."""
        request, self._request = self._request, None
        if request is not None:
            request.end(answered=answered, error=error)

    def retried(self, error: Exception, wait_s: float) -> None:
        """Note a request that failed and is sent again after `wait_s` seconds."""
        of_policy = isinstance(error, PolicyError)
        if self._request is None or of_policy != (self._stage == "policy"):
            return  # a request in the background, such as a deletion
        self._request.note_error(self._redactor.text(str(error)))
        kind = failure_kind(error, self._stage)
        if kind not in self._noted:
            self._noted.add(kind)
            self._note(self.unit, replace(self._failure(error, self._stage), retried_in_s=round(wait_s, 3)))

    async def open(self) -> None:
        """Open the session."""
        self.enter("open")
        try:
            await self.env.areset(options=self.unit.task.reset_options())
            if self.unit.task.row is not None and self.env.episode is not None:
                self.unit.task.row.enter(self.env.episode, self._row_prompt)
        except (*FAILURES, ConfigurationError) as error:
            mistake = isinstance(error, ConfigurationError | AuthenticationError) and not isinstance(error, TaskNotFoundError)
            raise self._failed(error, "open", mistake=mistake) from None
        self.leave(answered=True)

    async def play(self, fields: Mapping[str, Any], first_turns: SlowStart, running: RunningRollout | None = None) -> Rollout:
        """Play the open episode to its end, and return its rollout with `fields` added; write its messages to `running`."""
        episode = self.env.episode
        assert episode is not None
        deadline = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        self._stage = "policy"
        try:
            policy = self._checked(policy_of_episode(self._policy, episode.task, self.unit.sample, self.seed))
        except (Exception, SystemExit) as error:  # the policy is the caller's code, which may raise anything
            raise self._failed(error, "policy") from None
        group, sample = self.unit.group, self.unit.sample
        own: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "group": group,
            "sample": sample,
            "name": f"{group}-{sample}",
            "attempt": self.number,
        }
        own |= {"seed": self.seed, **fields}
        shown = _Shown(running, lambda: rollout_of(episode, **own))
        shown.show(episode)
        async with first_turns.slot():
            more = await self._watched_turn(episode, policy, deadline)
            first_turns.open()
        while more:
            shown.show(episode)
            more = await self._watched_turn(episode, policy, deadline)
        end: dict[str, Any] = {}
        if self._stop_reason is not None:
            end = {"terminated": False, "truncated": True, "stop_reason": self._stop_reason}
        return rollout_of(episode, **end, **own)

    def _checked(self, policy: Policy) -> Policy:
        """Return the policy with its answers checked, and with the time that it takes watched."""

        async def play(transcript: Transcript, tools: ToolSet) -> AssistantMessage:
            self.enter("policy")
            try:
                message: Any = await policy(transcript, tools)
            except SystemExit as error:
                raise PolicyError(f"the policy ended the process: {describe_error(error)}") from None
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    self.leave(answered=False)
                    raise
                # Nobody cancelled this attempt: a task of the policy's own was cancelled.
                raise PolicyError(f"the policy {self._name} was cancelled by itself") from None
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:
                if isinstance(error, Exception):
                    raise
                # Such as the panic of a library that is written in Rust. As it is, it would end the whole collection.
                raise PolicyError(f"the policy {self._name} failed: {describe_error(error)}") from error
            message = self._converted(message, policy)
            if is_no_answer(message):
                raise PolicyError(EMPTY_ANSWER, kind="policy_unavailable")
            self.enter("call")
            return cast(AssistantMessage, message)

        return play

    def _converted(self, message: Any, policy: Policy) -> AssistantMessage:
        """Convert what the policy returned to a message."""
        try:
            return as_message(message)
        except ConfigurationError:
            place = place_of(policy)
        name = f"the policy {self._name}{f' ({place})' if place else ''}"
        raise PolicyError(f"{name} returned {shown(message)}, which is not an action. A policy returns {ACTION_FORMS}.")

    async def _watched_turn(self, episode: Episode, policy: Policy, deadline: float | None) -> bool:
        more = await self._turn(episode, policy, deadline)
        failed = bool(episode.steps) and bool(episode.steps[-1].error)
        self.leave(answered=not failed)
        return self._truncate("message") if more and _keeps_saying_done(episode) else more

    async def _turn(self, episode: Episode, policy: Policy, deadline: float | None) -> bool:
        """Play one turn; return True if another one follows."""
        limit = asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic()))
        try:
            async with limit:
                message = await policy(episode.messages, episode.tools)
        except ContextOverflowError:
            return self._truncate("context_overflow")
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                return self._truncate("deadline")
            # The key is the same for every unit.
            raise self._failed(error, "policy", mistake=isinstance(error, AuthenticationError)) from None
        try:
            _, _, terminated, truncated, _ = await self.env.astep(message)
        except CallTimeoutError:
            return False  # a deadline of the user's: the step records it, and the episode counts as truncated
        except FAILURES as error:
            raise self._failed(error, "call") from None
        return not (terminated or truncated)

    def _truncate(self, stop_reason: str) -> bool:
        self._stop_reason = stop_reason
        self.env.truncate(stop_reason)
        return False

    def _failure(self, error: BaseException, stage: Stage) -> Failure:
        """Return the failure record of an exception, with the address that is not reached, or the secret that may be missing."""
        failure = _failure_of(error, self.unit, self.number, stage).redacted(self._redactor)
        if self.unit.task.row is not None and stage == "open" and failure.kind == "setup_failed":
            failure = replace(failure, message=f"{self.unit.task.row.describe()}: {failure.message}")
        if failure.kind in ("setup_failed", "tool_failed"):
            return replace(failure, message=failure.message + _secret_advice(failure.message, self._secrets))
        address = self._servers.policy.address
        if failure.kind == "policy_unavailable" and failure.http_status is None and address not in failure.message:
            failure = replace(failure, message=f"{failure.message} at {address}")
        return failure

    def _failed(self, error: BaseException, stage: Stage, *, mistake: bool = False) -> _AttemptFailedError:
        """Return the exception that ends this attempt with `error` as its failure."""
        failure = self._failure(error, stage)
        self.leave(answered=failure.kind not in _UNANSWERED, error=failure.message)
        wait_s = error.retry_after_s if isinstance(error, PolicyError | ServerError) else None
        if isinstance(error, OpenRewardGymError):
            raised = error
            raised.args = (failure.message,)
        else:
            raised = PolicyError(f"the policy {self._name} failed: {failure.message}", kind=failure.kind)
            raised.__cause__ = error
        mistaken = raised if mistake else None
        # Retries of this kind that the user asks for are made.
        raised_itself = failure.kind == "setup_failed" and is_deterministic(getattr(error, "detail", ""))
        wrong_row = stage == "open" and self.unit.task.row is not None and isinstance(error, ConfigurationError)
        once = (raised_itself or wrong_row) and failure.kind not in self._retries
        budget = "setup_raised" if once else None
        return _AttemptFailedError(
            AttemptResult(failure=failure, retry_after_s=wait_s, error=raised, mistake=mistaken, budget=budget)
        )


class _Shown:
    """Writes the messages of an episode while it is played, for readers that look on."""

    def __init__(self, running: RunningRollout | None, rollout: Callable[[], Rollout]) -> None:
        self._running, self._rollout = running, rollout
        self._messages = self._steps = 0

    def show(self, episode: Episode) -> None:
        """Write what is new."""
        if self._running is None:
            return
        new = [message for step in episode.steps[self._steps :] for message in step.messages]
        if not self._steps and not self._messages:
            new = [*episode.prompt, *new]
        self._running.write(self._rollout, self._messages, new)
        self._steps, self._messages = len(episode.steps), self._messages + len(new)


def _keeps_saying_done(episode: Episode) -> bool:
    """Return True if a policy without a model has said three times that it is done, and the environment goes on nevertheless."""
    said = [step.action for step in episode.steps[-3:] if step.action.text == DONE and not step.action.tool_calls]
    return len(said) == 3


def _failure_of(error: BaseException, unit: Unit, attempt: int, stage: Stage) -> Failure:
    """Return the failure record of an exception that ended an attempt.

    What is raised while the policy is asked is the policy's, also an error of this package. The rest is the environment's, except
    for a PolicyError.
    """
    foreign = isinstance(error, PolicyError) or not isinstance(error, OpenRewardGymError)
    extra: dict[str, Any] = {"split": unit.task.split, "index": unit.task.index}
    kind, message = failure_kind(error, stage), words_of(error) or type(error).__name__
    if not isinstance(error, OpenRewardGymError):
        message = _cut(describe_error(error))
    if stage == "policy" and own_frames(error):
        extra["traceback"] = _cut(traceback_text(error))
    return Failure(
        source="policy" if foreign or stage == "policy" else "environment",
        kind=kind,
        stage=stage,
        delivery=_attribute(error, "delivery", str),
        attempt=attempt,
        http_status=_attribute(error, "status", int),
        exception=f"{type(error).__module__}.{type(error).__qualname__}",
        message=message,
        task=unit.group,
        sample=unit.sample,
        extra={name: value for name, value in extra.items() if value is not None},
    )


def _attribute(error: BaseException, name: str, kind: type) -> Any:
    """Return an attribute that this package's errors have. None if an error of others lacks it, or has one of another type."""
    try:
        value = getattr(error, name, None)
    except Exception:  # a property of the user's class
        return None
    return value if isinstance(value, kind) else None


def _cut(text: str) -> str:
    """Return a text of the user's code without secrets, and without its middle if it is very long."""
    text = str(without_secrets(text))
    half = LONGEST_TEXT // 2
    return text if len(text) <= LONGEST_TEXT else f"{text[:half]} ... {text[-half:]}"


def _secret_advice(words: str, secrets: Mapping[str, str]) -> str:
    """Return how to pass the secret that an environment's error seems to ask for. Empty if it names none, or one of `secrets`."""
    name = _SECRET_NAME.search(words)
    if not (name or _SECRET.search(words)) or (name and name[0] in secrets):
        return ""
    secret, variable = (name[0], name[0].upper()) if name else ("NAME", "VARIABLE")
    return (
        f". If the environment lacks a secret, pass it: --secret {secret}={variable} "
        f"(in Python secrets_env={{{secret!r}: {variable!r}}}), where {variable} is the environment variable that holds it."
    )
