"""Options as frozen, validated objects: of a client, a session, an episode, an environment and a run.

Each option is declared here once, with its default, its check and its description. Functions with flat keyword arguments
(`OpenRewardEnv`, `collect`) build one of these objects from them.

>>> options = EnvOptions.from_keywords({"environment": "weather", "max_steps": 8, "request_timeout_s": 5.0})
>>> options.limits.max_steps, options.client.request_timeout_s
(8, 5.0)
>>> sorted(options.changes())
['environment', 'max_steps', 'request_timeout_s']
>>> EnvOptions.from_keywords({"environment": "weather", "max_step": 8})
Traceback (most recent call last):
openreward_gym.errors.ConfigurationError: EnvOptions has no option 'max_step'. Did you mean 'max_steps'?
"""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, ParamSpec, Self, TypeAlias, TypedDict, TypeVar, get_args

from openreward_gym.checks import (
    Check,
    choice,
    environment_name,
    flag,
    hosts,
    integer,
    mapping,
    names,
    nesting,
    number,
    strings,
    text,
)
from openreward_gym.credentials import HIDDEN, is_marked, revealed, sealed
from openreward_gym.errors import ConfigurationError
from openreward_gym.suggestions import did_you_mean, unknown_option
from openreward_gym.types import Json

__all__ = [
    "Advantage",
    "ClientOptions",
    "Engine",
    "EnvKeywords",
    "EnvOptions",
    "EpisodeLimits",
    "ObsMode",
    "OnFailure",
    "OnLength",
    "OnMessage",
    "OnResetFailure",
    "Options",
    "RenderMode",
    "RetryBudget",
    "RetryKind",
    "RetryLimits",
    "RowParameters",
    "RowPrompt",
    "RunOptions",
    "SessionOptions",
    "TaskOrder",
    "run_folder_of",
    "signature_from",
]

P = ParamSpec("P")
R = TypeVar("R")

TaskOrder: TypeAlias = Literal["sequential", "random", "shuffle"]
ObsMode: TypeAlias = Literal["text", "blocks", "messages"]
RenderMode: TypeAlias = Literal["ansi", "human", "rgb_array"]
OnMessage: TypeAlias = Literal["terminate", "truncate", "nudge"]
OnLength: TypeAlias = Literal["tell", "truncate", "play"]
OnFailure: TypeAlias = Literal["truncate", "raise"]
OnResetFailure: TypeAlias = Literal["auto", "raise", "truncate"]
Engine: TypeAlias = Literal["local", "ray"]
Advantage: TypeAlias = Literal["group", "leave_one_out"]
RowPrompt: TypeAlias = Literal["replace", "precede", "ignore"]
RowParameters: TypeAlias = Literal["use", "ignore"]

ROWS_SUFFIX = ".jsonl"
"""Ending of an `output` that is a file of NeMo Gym rows."""
RetryKind: TypeAlias = Literal[
    "unreachable",
    "connection",
    "timeout",
    "session_lost",
    "outcome_unknown",
    "protocol_error",
    "rate_limited",
    "server_error",
    "setup_failed",
    "setup_raised",
    "tool_failed",
    "policy_unavailable",
    "policy_failed",
    "policy_refused",
    "refused",
    "task_not_found",
    "worker_lost",
    "node_lost",
]
"""A kind of failed attempt, which `Failure.kind` names and `collect(retries=...)` takes; see `openreward_gym.collect.BUDGETS`."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Default for the largest size of one answer of a server, in bytes."""
_ALL = "values_are_secret"


def option(default: Any, check: Check = lambda name, value: value, *, repr: bool = True, values_are_secret: bool = False) -> Any:
    """Declare an option: a dataclass field with a check that runs when the object is made.

    Without `repr`, the value may hold credentials: reprs leave it out, and pickles hold the credentials sealed, or with
    `values_are_secret` all texts in it.
    """
    return field(default=default, repr=repr, metadata={"check": check, **({_ALL: True} if values_are_secret else {})})


def group(cls: type[Options], *, without: Iterable[str] = ()) -> Any:
    """Declare a nested options object. Its options are keywords of the outer object, except the names in `without`."""
    return field(default_factory=cls, metadata={"group": cls, "without": frozenset(without)})


@dataclass(frozen=True, slots=True)
class Options:
    """Base of the options objects: checks its fields, and converts from and to flat keyword arguments.

    Raises:
        ConfigurationError: An option has a wrong value.
    """

    def __new__(cls, *args: Any, **keywords: Any) -> Self:
        """Make an object that the dataclass's own `__init__` fills, after refusing unknown names with a suggestion."""
        known = [one.name for one in fields(cls)]
        for name in keywords:
            if name not in known:
                raise ConfigurationError(unknown_option(cls.__name__, name, known))
        return object.__new__(cls)

    def __post_init__(self) -> None:
        for one in fields(self):
            check: Check | None = one.metadata.get("check")
            value = getattr(self, one.name)
            if value is one.default and value != "":
                continue  # defaults are valid, but for an empty name, which has to be given
            if check is not None:
                if not one.repr:
                    value = _private(one, value)
                object.__setattr__(self, one.name, check(one.name, value))
            elif not isinstance(value, one.metadata["group"]):
                raise ConfigurationError(f"{one.name} must be {one.metadata['group'].__name__}(...)")

    def __reduce__(self) -> tuple[Any, ...]:
        # What the repr leaves out may hold credentials, so a pickle holds them sealed.
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        private = {one.name: sealed(values[one.name], all_of_it=_ALL in one.metadata) for one in fields(self) if not one.repr}
        return (_restored, (type(self), {**values, **private}))

    @classmethod
    def declarations(cls) -> dict[str, Field[Any]]:
        """Return the dataclass fields of all options by name, those of nested objects included."""
        declared: dict[str, Field[Any]] = {}
        for one in fields(cls):
            declared |= _shown(one, one.metadata["group"].declarations() if "group" in one.metadata else {one.name: one})
        return declared

    @classmethod
    def descriptions(cls) -> dict[str, str]:
        """Return the description of each option by name, those of nested objects included. Empty without source code."""
        try:
            body = ast.parse(inspect.getsource(cls)).body[0]
        except OSError:
            return {}
        assert isinstance(body, ast.ClassDef)
        written: dict[str, str] = {}
        for statement, following in pairwise(body.body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                match following:
                    case ast.Expr(value=ast.Constant(value=str(description))):
                        written[statement.target.id] = " ".join(description.split())
        descriptions: dict[str, str] = {}
        for one in fields(cls):
            own = {one.name: written.get(one.name, "")}
            descriptions |= _shown(one, one.metadata["group"].descriptions() if "group" in one.metadata else own)
        return descriptions

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all options, those of nested objects included."""
        return tuple(cls.declarations())

    @classmethod
    def from_keywords(cls, keywords: Mapping[str, Any], owner: str | Callable[..., Any] | None = None) -> Self:
        """Build the object, with its nested objects, from flat keywords.

        `owner` is the function that took them, or its name, for the error about an unknown name. None names the class.
        """
        known = cls.names()
        for name in keywords:
            if name not in known:
                if callable(owner):
                    known = tuple(inspect.signature(owner).parameters)
                    owner = owner.__name__ if isinstance(owner, type) else f"{owner.__name__}()"
                raise ConfigurationError(unknown_option(owner or cls.__name__, name, known))
        values = {one.name: keywords[one.name] for one in fields(cls) if one.name in keywords}
        for one in fields(cls):
            if nested := one.metadata.get("group"):
                own = _shown(one, nested.declarations()).keys() & keywords.keys()
                values[one.name] = nested.from_keywords({name: keywords[name] for name in own})
        return cls(**values)

    def to_keywords(self) -> dict[str, Any]:
        """Return all options as flat keyword arguments: the inverse of `from_keywords`."""
        keywords: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            keywords |= _shown(one, value.to_keywords() if "group" in one.metadata else {one.name: value})
        return keywords

    def changes(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, as flat keyword arguments."""
        defaults = {name: one.default for name, one in self.declarations().items()}
        return {name: value for name, value in self.to_keywords().items() if name not in defaults or value != defaults[name]}


def _private(one: Field[Any], value: Any) -> Any:
    """Return the value of an option that may hold credentials, in the clear. Refuse one that was hidden when it was written."""
    value = revealed(value)
    if is_marked(value, all_of_it=_ALL in one.metadata):
        raise ConfigurationError(
            f"{one.name} has {HIDDEN!r} in the place of a credential that was hidden when it was written: give it again "
            f"(in Python {one.name}=...)"
        )
    return value


def _restored(cls: type[Options], values: dict[str, Any]) -> Options:
    """Return the options object of a pickle or a copy."""
    return cls(**{one.name: values[one.name] if one.repr else revealed(values[one.name]) for one in fields(cls)})


def _shown(one: Field[Any], inner: Mapping[str, R]) -> dict[str, R]:
    """Return the part of a nested object's options that are options of the outer object."""
    return {name: value for name, value in inner.items() if name not in one.metadata.get("without", ())}


def signature_from(cls: type[Options]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function whose `**keywords` are the options of `cls`: `inspect.signature` and `help` list them by name.

    Example:
        >>> @signature_from(RetryLimits)
        ... def ask(question: str, **options: Any) -> str: ...
        >>> str(inspect.signature(ask))[:60]
        "(question: 'str', *, attempts: 'int' = 4, first_wait_s: 'flo"
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
            for name, one in cls.declarations().items()
            if name not in signature.parameters
        ]
        vars(function)["__signature__"] = signature.replace(parameters=[*own, *options])
        return function

    return decorate


@dataclass(frozen=True, slots=True)
class RetryLimits(Options):
    """Limits on retrying one request.

    Example:
        >>> RetryLimits(attempts=2).longest_wait_s
        10.0
    """

    attempts: int = option(4, integer(1))
    """Largest number of attempts when a failure is transient."""
    first_wait_s: float = option(0.25, number(zero=True))
    """Seconds before the second attempt. The wait doubles with each further attempt."""
    longest_wait_s: float = option(10.0, number(zero=True))
    """Longest wait between two attempts, in seconds, also where the server asks for more."""
    starting_s: float = option(600.0, number(zero=True))
    """Seconds to wait for a backend that reports that it is starting. Under load that takes minutes."""
    resume_s: float = option(60.0, number(zero=True))
    """Seconds to poll for a call whose task id is known, counted from the last progress. Servers keep a result for 60 s."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> RetryLimits:
        """Return the default limits, with `starting_s` from `OPENREWARD_STARTING_RIDE_OUT_S` if that is set."""
        value = environ.get("OPENREWARD_STARTING_RIDE_OUT_S")
        if value is None:
            return cls()
        try:
            return cls(starting_s=float(value))
        except ValueError:
            raise ConfigurationError(f"OPENREWARD_STARTING_RIDE_OUT_S={value!r} is not a number of seconds") from None


def retry_limits_of(name: str, value: Any) -> RetryLimits | None:
    """Check that a value is RetryLimits or None. A dict is converted."""
    if isinstance(value, Mapping):
        # An `EnvSpec` holds plain JSON, so the limits may be a dict.
        return RetryLimits.from_keywords(value)
    if value is not None and not isinstance(value, RetryLimits):
        raise ConfigurationError(f"{name} must be RetryLimits(...), a dict of its options, or None, not {value!r}")
    return value


@dataclass(frozen=True, slots=True)
class ClientOptions(Options):
    """Options of a client: which server it talks to, and how."""

    base_url: str | None = option(None, text(optional=True), repr=False)
    """URL of the server. None takes `OPENREWARD_URL`, or the hosted platform where that is not set."""
    api_key_env: str = option("OPENREWARD_API_KEY", text())
    """Name of the environment variable that holds the API key."""
    transport: Any = option("fast")
    """Name of a transport: "fast", "httpx" or "in-process". In Python also an `AsyncClient` of httpx or httpx2, an ASGI
    application or a `Transport`."""
    request_timeout_s: float = option(60.0, number())
    """Seconds until the response to an ordinary request must begin, and until it must be complete."""
    idle_timeout_s: float = option(30.0, number())
    """Seconds without data after which a stream counts as dead. Servers send a heartbeat every 10 s."""
    ping_interval_s: float = option(10.0, number())
    """Seconds between two pings of an open session."""
    max_answer_bytes: int = option(MAX_ANSWER_BYTES, integer(1))
    """Largest size in bytes of one answer or of one call's event stream, unpacked. A larger one is an error."""
    retry_limits: RetryLimits | None = option(None, retry_limits_of)
    """Limits on retrying a request. In Python also a dict, which is converted to `RetryLimits`. None takes the defaults and
    `OPENREWARD_STARTING_RIDE_OUT_S`."""
    max_nesting: int = option(200, nesting)
    """Largest number of levels of lists and objects in an answer of the server. A deeper one is an error."""
    max_blocks: int = option(10_000, integer(1))
    """Largest number of blocks in an output, a prompt or a conversation. More are an error."""
    max_images: int = option(1_000, integer(0))
    """Largest number of images among them."""


@dataclass(frozen=True, slots=True)
class SessionOptions(Options):
    """Options of a session, apart from its task."""

    toolset: str | None = option(None, text(optional=True))
    """Name of a toolset of the server to add to the environment's own tools. None adds none."""
    secrets_env: Mapping[str, str] | None = option(None, strings)
    """Secrets of the environment: the secret's name -> the name of the environment variable that holds it."""
    secret_domains: Mapping[str, Sequence[str]] | None = option(None, hosts)
    """Hosts that may receive a secret: the secret's name -> host names. The hosted platform requires it."""
    env_overrides: Mapping[str, str] | None = option(None, mapping, repr=False, values_are_secret=True)
    """Environment variables to set in the environment's container."""
    open_timeout_s: float = option(1800.0, number())
    """Seconds that opening the session may take. A machine may have to be started."""
    step_timeout_s: float | None = option(None, number(optional=True))
    """Seconds that one call may take. None sets no limit."""
    episode_timeout_s: float | None = option(None, number(optional=True))
    """Seconds after opening from which calls time out. None sets no limit."""


@dataclass(frozen=True, slots=True)
class EpisodeLimits(Options):
    """Limits on an episode, and what ends it."""

    max_steps: int | None = option(None, integer(1, optional=True))
    """Number of steps after which the episode is truncated. None sets no limit."""
    reset_timeout_s: float = option(900.0, number())
    """Seconds that `reset` may take. Hosted environments are started in it."""
    step_timeout_s: float | None = option(600.0, number(optional=True))
    """Seconds that one call may take; a call that takes longer truncates the episode. None sets no limit."""
    episode_timeout_s: float | None = option(None, number(optional=True))
    """Seconds after `reset` from which the episode is truncated. None sets no limit."""
    on_message: OnMessage = option("terminate", choice(OnMessage))
    """Effect of a plain message in an environment without a terminal tool: "terminate" or "truncate" the episode, or
    "nudge" the model to call a tool."""
    on_length: OnLength = option("tell", choice(OnLength))
    """Effect of a message that the token limit cut off: "tell" the model, which can write it again; "truncate" the episode; or
    "play" a text as the answer. Calls of such a message are never run."""
    on_failure: OnFailure = option("truncate", choice(OnFailure))
    """Effect of a failed connection or server in a step: "truncate" the episode, or "raise" the error as well."""
    on_reset_failure: OnResetFailure = option("auto", choice(OnResetFailure))
    """Effect of a failed connection or server in a reset: "raise" the error, or "truncate": `reset` returns an empty
    observation with `info["error"]`, and the next step is truncated. "auto" truncates if Gymnasium resets the env by itself
    (autoreset in `SyncVectorEnv`, `AsyncVectorEnv` and `Autoreset`) and in every reset but the first in a worker of
    `AsyncVectorEnv`, where an exception ends the batch, and raises otherwise."""


@dataclass(frozen=True, slots=True)
class EnvOptions(Options):
    """Options of an `OpenRewardEnv`."""

    environment: str | type[Any] = option("", environment_name)
    """Name of the environment ("weather" on one server, "owner/name" on the platform), or a class to play in this process."""
    variant: str | None = option(None, text(optional=True))
    """Variant of the environment. None takes its default."""
    split: str = option("train", text())
    """Split that tasks come from."""
    task_index: int | None = option(None, integer(0, optional=True))
    """Index of the only task to play. None lets `task_order` and the seed choose."""
    task_order: TaskOrder = option("sequential", choice(TaskOrder))
    """Order of tasks: "sequential" (seed s gives task s % n), "random" or "shuffle"."""
    obs_mode: ObsMode = option("text", choice(ObsMode))
    """Form of observations: "text", "blocks" or "messages"."""
    max_obs_chars: int | None = option(None, integer(1, optional=True))
    """Length in characters above which a text observation loses its middle. None cuts nothing."""
    render_mode: RenderMode | None = option(None, choice(RenderMode, optional=True))
    """Form that `render` returns; None renders nothing."""
    client: ClientOptions = group(ClientOptions)
    """Options of the client."""
    session: SessionOptions = group(SessionOptions, without=("open_timeout_s", "step_timeout_s", "episode_timeout_s"))
    """Options of each session. An env's timeouts are those of `limits`."""
    limits: EpisodeLimits = group(EpisodeLimits)
    """Limits on each episode."""


class EnvKeywords(TypedDict, total=False):
    """Types of the options of `EnvOptions` as flat keyword arguments, for type checkers.

    Without `environment`, `base_url` and `transport`, which the functions that take these arguments declare themselves.

    Example:
        >>> options: EnvKeywords = {"split": "test", "max_steps": 8}
    """

    variant: str | None
    split: str
    task_index: int | None
    task_order: TaskOrder
    obs_mode: ObsMode
    max_obs_chars: int | None
    render_mode: RenderMode | None
    api_key_env: str
    request_timeout_s: float
    idle_timeout_s: float
    ping_interval_s: float
    max_answer_bytes: int
    retry_limits: RetryLimits | Mapping[str, float] | None
    max_nesting: int
    max_blocks: int
    max_images: int
    toolset: str | None
    secrets_env: Mapping[str, str] | None
    secret_domains: Mapping[str, Sequence[str]] | None
    env_overrides: Mapping[str, str] | None
    max_steps: int | None
    reset_timeout_s: float
    step_timeout_s: float | None
    episode_timeout_s: float | None
    on_message: OnMessage
    on_length: OnLength
    on_failure: OnFailure
    on_reset_failure: OnResetFailure


@dataclass(frozen=True, slots=True)
class RetryBudget(Options):
    """Number of attempts, and time, that one unit of a run may spend on one kind of failure.

    Attempts are spaced by a random wait of up to `first_wait_s`, which doubles with each failure of the kind (full jitter).
    """

    attempts: int = option(1, integer(1))
    """Largest number of attempts that end in this failure. 1 never retries."""
    first_wait_s: float = option(0.5, number(zero=True))
    """Longest wait before the second attempt, in seconds."""
    longest_wait_s: float = option(30.0, number(zero=True))
    """Longest wait between any two attempts, in seconds."""
    deadline_s: float = option(600.0, number(zero=True))
    """Seconds after the unit's first failure from which it is not retried."""


def _retries(name: str, value: Any) -> dict[str, RetryBudget] | None:
    budgets = mapping(name, value)
    for kind, budget in (budgets or {}).items():
        if kind not in get_args(RetryKind):
            raise ConfigurationError(f"{name} has no kind {kind!r}: {did_you_mean(kind, get_args(RetryKind), 'kinds')}")
        if not isinstance(budget, RetryBudget):
            raise ConfigurationError(f"{name}[{kind!r}] must be a RetryBudget(...), not {budget!r}")
    return budgets


def _fail_on_error(name: str, value: Any) -> Any:
    value = number(optional=True, zero=True)(name, value)
    if value is not None and value > 1 and value != int(value):
        raise ConfigurationError(f"{name} must be a share below 1 or a whole number of units, not {value!r}")
    return value


def _output(name: str, value: Any) -> Any:
    if value is not None and not isinstance(value, str | os.PathLike):
        raise ConfigurationError(f"{name} must be a path or None, not {value!r}")
    if value is not None and "://" in os.fspath(value):
        raise ConfigurationError(
            f"{name}={os.fspath(value)!r} is a URL, but a run is collected into a local folder. Copy the folder there afterwards."
        )
    return value


@dataclass(frozen=True, slots=True)
class RunOptions(Options):
    """Options of a collection: the keyword arguments of `collect`.

    Example:
        >>> options = RunOptions.from_keywords({"environment": "weather", "policy": "random", "output": "rows.jsonl"})
        >>> options.env.environment, str(options.run_folder), str(options.rows_path)
        ('weather', 'rows', 'rows.jsonl')
    """

    env: EnvOptions = group(EnvOptions)
    """Options of the envs that play."""
    policy: Any = option(None)
    """Policy to play: a callable, an object with `begin`, or a name; see `openreward_gym.policies.resolve`."""
    policy_url: str | None = option(None, text(optional=True), repr=False)
    """URL of the policy's model. None takes its provider's own."""
    policy_options: Mapping[str, Any] | None = option(None, mapping, repr=False)
    """Further arguments of a policy that is given by name (sampling parameters, prices, ...)."""
    tasks: str | Iterable[int] | None = option(None)
    """Tasks of the split to play: "0:100", "3,7" or integers. None plays all."""
    input: str | os.PathLike[str] | None = option(None)
    """JSONL file that lists the tasks, or NeMo Gym rows, instead of `tasks`."""
    row_prompt: RowPrompt = option("replace", choice(RowPrompt))
    """Effect of the messages of a NeMo Gym row: they "replace" the environment's prompt, those before the question "precede" it,
    or it "ignore"s them."""
    row_parameters: RowParameters = option("use", choice(RowParameters))
    """Effect of the other parameters of a row's request (temperature, tool_choice, ...): the policy is to "use" them, or they are
    "ignore"d. A parameter that the policy cannot follow is an error. `policy_options` win over the row's."""
    repeats: int = option(1, integer(1))
    """Rollouts per task. They form the task's group."""
    limit: int | None = option(None, integer(1, optional=True))
    """Number of tasks to play, from the first on. The others can be played later. None plays all."""
    concurrency: int = option(16, integer(1))
    """Number of episodes to play at once."""
    prefetch: int = option(0, integer(0))
    """Number of sessions to open ahead, beside those that are played. Their `episode_timeout_s` runs, too."""
    opening: int = option(32, integer(1))
    """Largest number of sessions to open at once."""
    output: str | os.PathLike[str] | None = option(None, _output)
    """Folder of the run. With the name of a file, FILE.jsonl, NeMo Gym's rows are written there, and the run is the folder FILE
    beside it. None makes a folder under `runs/`."""
    resume: bool = option(False, flag)
    """Continue the run in `output`: play only what is missing."""
    allow_changed: bool = option(False, flag)
    """Continue even if tasks or behaviour changed since. `run.json` records the change."""
    run_timeout_s: float | None = option(None, number(optional=True))
    """Seconds after which the collection stops. Episodes in flight are abandoned and count as missing. None sets no limit."""
    seed: int = option(0, integer())
    """Seed from which the seed of each unit is derived, independently of the order in which units run."""
    retries: Mapping[str, RetryBudget] | None = option(None, _retries)
    """Retry budgets by kind of failure, in place of the defaults (`openreward_gym.collect.BUDGETS`)."""
    fail_on_error: float | None = option(None, _fail_on_error)
    """Failed units after which the collection stops: a number, or a share below 1 of at least ten finished ones. 0 never stops.
    None stops after the first five attempts if they fail in the same lasting way and nothing has succeeded."""
    score_groups: bool = option(False, flag)
    """Ask the environment to compare the rollouts of each task when its group is complete."""
    advantages: Advantage | None = option(None, choice(Advantage, optional=True))
    """Kind of advantages to compute for each complete group. None computes none."""
    progress: Any = option(True)
    """Progress shown on stderr: True chooses a form, False shows none; or "bar", "log", "json", or a `Reporter`."""
    redact: Sequence[str] | None = option(None, names)
    """Environment variables whose values are cut out of everything that the run writes, also where they are escaped or encoded.
    The secrets and keys of the run itself always are."""
    redact_patterns: Sequence[str] | None = option(None, names)
    """Regular expressions whose matches are cut out as well. They are recorded: write no secret into one."""
    upload: bool | str = option(False)
    """Send rollouts to the platform during the collection (key in `OPENREWARD_API_KEY`). In Python, a string is the URL of its
    API."""
    engine: Engine = option("local", choice(Engine))
    """Where episodes are played: "local" in this process, "ray" in Ray actors."""
    workers: int | None = option(None, integer(1, optional=True))
    """Number of Ray actors, which share `concurrency`. None starts one per core of this machine."""
    ray_options: Mapping[str, Json] | None = option(None, mapping, repr=False)
    """Further options of the Ray actors (num_cpus, num_gpus, resources, runtime_env, ...)."""

    def __post_init__(self) -> None:
        # `super()` does not work in a dataclass with slots: the decorator makes a new class.
        Options.__post_init__(self)
        if self.tasks is not None and self.input is not None:
            raise ConfigurationError("tasks=... chooses tasks of a split and input=... lists them: pass only one of them")
        if (self.score_groups or self.advantages) and self.repeats < 2:
            raise ConfigurationError("comparing the rollouts of a task takes several of them: pass repeats=2 or more")
        if self.output is None and self.resume:
            raise ConfigurationError("resume needs the folder of the run to continue: output=... (--output)")
        rows, folder = self.rows_path, self.run_folder
        if rows is not None and rows.is_dir():
            raise ConfigurationError(f"output={str(rows)!r} is to be a file of rows, and is a folder: choose another name")
        if rows is not None and folder is not None and folder.is_file():
            raise ConfigurationError(
                f"output={str(rows)!r} needs the folder {folder} for its run, which is a file: choose another name"
            )
        if self.engine == "local" and (self.workers is not None or self.ray_options is not None):
            raise ConfigurationError("workers=... and ray_options=... need engine='ray'; engine='local' uses concurrency=...")

    @property
    def rows_path(self) -> Path | None:
        """The file of NeMo Gym rows that `output` names. None if it names none."""
        return Path(self.output) if self.output is not None and _is_rows_file(self.output) else None

    @property
    def run_folder(self) -> Path | None:
        """The folder of the run. None if the run gets a new one under `runs/`."""
        return run_folder_of(self.output)


def run_folder_of(output: str | os.PathLike[str] | None) -> Path | None:
    """Return the folder of a run with this `output`: of a file of rows, the folder beside it. None stays None.

    Example:
        >>> run_folder_of("data/rollouts.jsonl") == run_folder_of("data/rollouts") == Path("data/rollouts")
        True
    """
    if output is None or not os.fspath(output):
        return None
    return Path(output).with_suffix("") if _is_rows_file(output) else Path(output)


def _is_rows_file(output: str | os.PathLike[str]) -> bool:
    return Path(output).suffix.lower() == ROWS_SUFFIX
