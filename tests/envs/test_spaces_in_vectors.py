"""The spaces inside Gymnasium's vector environments and wrappers, with values made to break them."""

from __future__ import annotations

import copy
import pickle
import tempfile
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces.utils import flatdim, flatten, flatten_space, is_space_dtype_shape_equiv, unflatten
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector import utils as vector_utils
from gymnasium.wrappers import DelayObservation, FlattenObservation, FrameStackObservation, RecordEpisodeStatistics
from gymnasium.wrappers.utils import create_zero_array

from openreward_gym.envs.spaces import BlocksSpace, MessagesSpace, ToolCallSpace, UnicodeText
from openreward_gym.envs.spaces.dispatch import ObservationBuffer
from openreward_gym.types import ToolSpec

# Annotated for arrays alone, though they take any space's elements.
write_to_shared_memory: Any = vector_utils.write_to_shared_memory
create_empty_array: Any = vector_utils.create_empty_array
concatenate: Any = vector_utils.concatenate

pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # from Python 3.12 on, beside threads

HOSTILE_TEXTS = (
    "plain",
    "",
    "\0 before and after \0",
    "é 漢字 \U0001f9e0 \u202e",
    "\ud800 half a pair \udfff",
    "x" * 65_536,  # about as large as a slot
    "é" * 40_000,  # fewer characters than a slot has bytes, but more bytes
    "",  # after a spilled one
    "y" * 10_000_000,
    "short again",
)
HOSTILE_BLOCKS: tuple[tuple[dict[str, Any], ...], ...] = (
    ({"type": "text", "text": "plain"},),
    (),
    tuple({"type": "text", "text": text} for text in HOSTILE_TEXTS[:5]),
    ({"type": "image", "data": bytes(range(256)) * 40_000, "mime": "image/png"}, {"type": "text", "text": "\udfff"}),
    ({"type": "image", "data": b"", "mime": ""},),
)
HOSTILE_MESSAGES: tuple[tuple[dict[str, Any], ...], ...] = (
    ({"role": "user", "content": "plain"},),
    (),
    ({"role": "tool", "tool_call_id": "", "content": "\ud800\0" * 100_000},),
    (
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{broken \udc00"}}],
        },
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]},
    ),
)
TOOLS = (
    ToolSpec("look", "", {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}),
    ToolSpec("wait"),
)


class HostileEnv(gym.Env[Any, Any]):
    """Says one value after the other; the third step ends an episode."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(self, space: gym.Space[Any], values: tuple[Any, ...]) -> None:
        self.observation_space = space
        self.action_space = ToolCallSpace(TOOLS, message=True)
        self._values = values
        self._next = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._next = seed
        return self._say(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        return self._say(), 1.0, self._next % 3 == 0, False, {}

    def _say(self) -> Any:
        self._next += 1
        return copy.deepcopy(self._values[(self._next - 1) % len(self._values)])


CASES = {
    "text": (UnicodeText(), HOSTILE_TEXTS),
    "blocks": (BlocksSpace(), HOSTILE_BLOCKS),
    "messages": (MessagesSpace(), HOSTILE_MESSAGES),
}


class EnvMaker:
    """Makes a `HostileEnv`; a class, so that it pickles."""

    def __init__(self, case: str) -> None:
        self.case = case

    def __call__(self, **kwargs: Any) -> gym.Env[Any, Any]:
        return HostileEnv(*CASES[self.case])


def trajectory(envs: Any, steps: int) -> list[tuple[Any, ...]]:
    observations, _ = envs.reset(seed=0)
    seen = [tuple(observations)]
    actions = envs.action_space
    actions.seed(7)
    for _ in range(steps):
        observations, _, _, _, infos = envs.step(actions.sample())
        assert envs.observation_space.contains(observations)
        seen.append((*observations, infos.get("final_obs")))
    return seen


def same(a: Any, b: Any) -> bool:
    """Return True if two trajectories are equal; `final_obs` is an object array."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("case", CASES)
def test_async_with_shared_memory_says_what_sync_says(case: str, context: str) -> None:
    steps = len(CASES[case][1])
    sync = SyncVectorEnv([EnvMaker(case)] * 2)
    parallel = AsyncVectorEnv([EnvMaker(case)] * 2, context=context)
    try:
        assert same(trajectory(parallel, steps), trajectory(sync, steps))
    finally:
        parallel.close()
        sync.close()


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("shared_memory", [True, False])
def test_every_autoreset_mode(mode: AutoresetMode, shared_memory: bool) -> None:
    steps = 1 if mode is AutoresetMode.DISABLED else 9  # the second environment ends at its second step
    sync = SyncVectorEnv([EnvMaker("text")] * 2, autoreset_mode=mode)
    parallel = AsyncVectorEnv([EnvMaker("text")] * 2, autoreset_mode=mode, context="fork", shared_memory=shared_memory)
    try:
        assert same(trajectory(parallel, steps), trajectory(sync, steps))
    finally:
        parallel.close()
        sync.close()


def test_a_kept_observation_does_not_change() -> None:
    envs = AsyncVectorEnv([EnvMaker("text")] * 2, context="fork")
    try:
        first, _ = envs.reset(seed=0)
        envs.step(envs.action_space.sample())
        assert first == (HOSTILE_TEXTS[0], HOSTILE_TEXTS[1])
    finally:
        envs.close()


def test_without_copies_the_view_is_live() -> None:
    envs = AsyncVectorEnv([EnvMaker("text")] * 2, context="fork", copy=False)
    try:
        view, _ = envs.reset(seed=0)
        assert list(view) == list(HOSTILE_TEXTS[:2])
        envs.step(envs.action_space.sample())
        assert view == HOSTILE_TEXTS[1:3]
        assert view[-1] == HOSTILE_TEXTS[2]
        assert view[:1] == (HOSTILE_TEXTS[1],)
        assert len(view) == 2
        assert pickle.loads(pickle.dumps(view)) == HOSTILE_TEXTS[1:3]
        assert copy.copy(view) == HOSTILE_TEXTS[1:3]
    finally:
        envs.close()


def test_different_spaces_share_a_batch() -> None:
    makers: list[Any] = [EnvMaker("text"), ShortMaker()]
    for envs in (
        SyncVectorEnv(makers, observation_mode="different"),
        AsyncVectorEnv(makers, observation_mode="different", context="fork"),
    ):
        try:
            observations, _ = envs.reset(seed=0)
            assert observations == ("plain", "short")
            assert isinstance(envs.observation_space, gym.spaces.Tuple)
            assert envs.observation_space[1] == UnicodeText(5)
        finally:
            envs.close()


class ShortMaker:
    def __call__(self) -> gym.Env[Any, Any]:
        return HostileEnv(UnicodeText(5), ("", "short"))


def test_inside_a_dict_space() -> None:
    envs = AsyncVectorEnv([DictMaker()] * 2, context="fork")
    try:
        observations, _ = envs.reset(seed=0)
        assert observations["text"] == HOSTILE_TEXTS[:2]
        assert observations["count"].tolist() == [1, 2]
        observations, *_ = envs.step(envs.action_space.sample())
        assert observations["text"] == HOSTILE_TEXTS[1:3]
    finally:
        envs.close()


class DictMaker:
    def __call__(self) -> gym.Env[Any, Any]:
        space = gym.spaces.Dict({"text": UnicodeText(), "count": gym.spaces.Discrete(100)})
        return HostileEnv(space, tuple({"text": text, "count": i} for i, text in enumerate(HOSTILE_TEXTS, 1)))


# ---- shared memory by itself ----


@pytest.fixture
def spill_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_long_values_leave_no_file_behind(spill_folder: Path) -> None:
    space = UnicodeText()
    memory = vector_utils.create_shared_memory(space, n=2)
    view = vector_utils.read_from_shared_memory(space, memory, n=2)
    assert tuple(view) == ("", "")
    assert list(spill_folder.iterdir()) == []
    write_to_shared_memory(space, 1, "z" * 100_000, memory)
    (folder,) = spill_folder.iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.iterdir())) == 1
    assert copy.deepcopy(view) == ("", "z" * 100_000)
    write_to_shared_memory(space, 1, "short", memory)
    assert list(folder.iterdir()) == []
    write_to_shared_memory(space, 0, "z" * 100_000, memory)
    del memory, view
    assert list(spill_folder.iterdir()) == []


def test_a_worker_does_not_remove_the_parents_files(spill_folder: Path) -> None:
    import multiprocessing

    slots = ObservationBuffer(1, multiprocessing.get_context("fork"))
    slots.write(0, b"z" * 100_000)
    process = multiprocessing.get_context("fork").Process(target=_collect_garbage)
    process.start()
    process.join(30)
    assert process.exitcode == 0
    assert slots.read(0) == b"z" * 100_000


def _collect_garbage() -> None:
    import gc
    import weakref

    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        pending = finalizer.peek()
        # As at the end of a process, but not the finalizers of other tests' servers.
        if pending is not None and (pending[1].__module__ or "").startswith("openreward_gym.envs"):
            finalizer()
    gc.collect()


# ---- Gymnasium's functions over spaces ----

SPACES: dict[str, gym.Space[Any]] = {
    "text": UnicodeText(),
    "short": UnicodeText(3),
    "blocks": BlocksSpace(),
    "messages": MessagesSpace(),
    "calls": ToolCallSpace(TOOLS),
    "no tools": ToolCallSpace((), message=True),
}


@pytest.mark.parametrize("name", SPACES)
def test_batches(name: str) -> None:
    space = copy.deepcopy(SPACES[name])
    space.seed(3)
    batched = vector_utils.batch_space(space, 4)
    batched.seed(5)
    batch = batched.sample()
    assert batched.contains(batch)
    assert list(vector_utils.iterate(batched, batch)) == list(batch)
    items = [space.sample() for _ in range(4)]
    joined = concatenate(space, items, create_empty_array(space, 4))
    assert joined == tuple(items)
    assert batched.contains(joined)
    different = vector_utils.batch_differing_spaces([space, copy.deepcopy(space)])
    assert different.contains(different.sample())
    assert is_space_dtype_shape_equiv(space, copy.deepcopy(space))
    assert not is_space_dtype_shape_equiv(space, gym.spaces.Discrete(2))


@pytest.mark.parametrize("name", SPACES)
def test_zeros_are_elements(name: str) -> None:
    space = SPACES[name]
    assert space.contains(create_zero_array(space))
    assert create_zero_array(space) == create_zero_array(copy.deepcopy(space))
    assert create_empty_array(space, n=3) == (create_zero_array(space),) * 3
    assert create_empty_array(space, n=None) == create_zero_array(space)


@pytest.mark.parametrize("name", SPACES)
def test_shared_memory_takes_samples(name: str) -> None:
    space = copy.deepcopy(SPACES[name])
    memory = vector_utils.create_shared_memory(space, n=3)
    view = vector_utils.read_from_shared_memory(space, memory, n=3)
    samples = tuple(space.sample() for _ in range(3))
    for index, sample in enumerate(samples):
        write_to_shared_memory(space, index, sample, memory)
    assert copy.deepcopy(view) == samples
    assert repr(view) == repr(samples)


@pytest.mark.parametrize("name", SPACES)
def test_flattening_leaves_them_as_they_are(name: str) -> None:
    space = SPACES[name]
    sample = space.sample()
    assert not space.is_np_flattenable
    assert flatten_space(space) == space
    assert flatten(space, sample) == sample
    assert unflatten(space, sample) == sample
    with pytest.raises(ValueError, match="cannot be flattened"):
        flatdim(space)
    both = gym.spaces.Dict({"box": gym.spaces.Box(0, 1, (2, 2)), "ours": space})
    flat = flatten_space(both)
    assert isinstance(flat, gym.spaces.Dict)
    assert flat["box"].shape == (4,)
    assert flat.contains(flatten(both, both.sample()))


# ---- wrappers ----


@pytest.mark.parametrize("case", CASES)
def test_wrappers_that_remember_observations(case: str) -> None:
    space, values = CASES[case]
    stacked = FrameStackObservation(HostileEnv(space, values), 3)
    observation, _ = stacked.reset(seed=0)
    assert tuple(observation) == (values[0],) * 3
    observation, *_ = stacked.step("go")
    assert tuple(observation) == (values[0], values[0], values[1])
    assert stacked.observation_space.contains(observation)

    delayed = DelayObservation(HostileEnv(space, values), delay=1)
    observation, _ = delayed.reset(seed=0)
    assert observation == create_zero_array(space)
    observation, *_ = delayed.step("go")
    assert observation == values[0]


@pytest.mark.parametrize("case", CASES)
def test_wrappers_that_pass_observations_on(case: str) -> None:
    space, values = CASES[case]
    env = FlattenObservation(RecordEpisodeStatistics(gym.wrappers.TimeLimit(HostileEnv(space, values), 2)))
    observation, _ = env.reset(seed=0)
    assert observation == values[0]
    env.step({"name": "wait", "arguments": {}})
    observation, _, _, truncated, info = env.step("go")
    assert truncated
    assert info["episode"]["r"] == 2.0
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize("case", CASES)
def test_passes_the_checker_of_environments(case: str) -> None:
    from gymnasium.utils.env_checker import check_env

    check_env(HostileEnv(*CASES[case]), skip_render_check=True)


def test_make_vec_by_an_id_with_default_settings() -> None:
    gym.register("HostileText-v0", entry_point=EnvMaker("text"), nondeterministic=True)
    try:
        envs = gym.make_vec("HostileText-v0", 3, vectorization_mode="async")
        try:
            assert envs.reset(seed=0)[0] == HOSTILE_TEXTS[:3]
            assert envs.step(envs.action_space.sample())[0] == HOSTILE_TEXTS[1:4]
        finally:
            envs.close()
    finally:
        gym.registry.pop("HostileText-v0")
