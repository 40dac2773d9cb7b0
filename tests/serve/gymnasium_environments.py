"""Gymnasium environments for the tests of the bridge."""

from __future__ import annotations

import enum
import threading
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Everything(gym.Env[Any, Any]):
    """Has actions and observations of every kind of space; the last action is part of the observation."""

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 1}  # noqa: RUF012 (Gymnasium's own)
    inner = spaces.Dict(
        {
            "speed": spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([1.0, 3.5], np.float32)),
            "gear": spaces.Discrete(3, start=-1),
            "lights": spaces.MultiBinary(3),
            "dials": spaces.MultiDiscrete([3, 5], start=[0, 2]),
            "words": spaces.Text(5, min_length=1, charset="ab-]^"),
            "pair": spaces.Tuple((spaces.Discrete(2), spaces.Box(0, 9, (2, 2), np.int16))),
            "path": spaces.Sequence(spaces.Discrete(4)),
            "either": spaces.OneOf((spaces.Discrete(2), spaces.Box(-1, 1, (1,), np.float64))),
        }
    )

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.action_space = self.inner
        self.observation_space = spaces.Dict({"action": self.inner, "free": spaces.Box(-np.inf, np.inf, (3,), np.float32)})
        self.threads = {threading.get_ident()}
        self.last_action: Any = None

    def _observe(self) -> Any:
        self.threads.add(threading.get_ident())
        free = self.np_random.normal(size=3).astype(np.float32)
        free[2] = self.np_random.choice([np.inf, -np.inf, 0.1])
        return {"action": self.last_action, "free": free}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.inner.seed(seed)
        self.last_action = self.inner.sample()
        return self._observe(), {"options": options or {}}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        assert self.inner.contains(action), action
        self.last_action = action
        info = {"threads": len(self.threads), "mask": np.ones(2, np.int8), "big": np.zeros((40, 40)), "odd": object()}
        return self._observe(), np.float32(0.1), False, self.np_random.random() < 0.1, info

    def render(self) -> Any:
        return "a frame" if self.render_mode == "ansi" else np.full((4, 6, 3), 7, np.uint8)


class Snake(gym.Env[Any, Any]):
    """Has pictures and named actions, as grid worlds do."""

    class actions(enum.IntEnum):
        left = 0
        right = 1
        done = 2

    def __init__(self, *, first: bool = False) -> None:
        self.action_space = spaces.Discrete(3)
        self.observation_space = spaces.Box(0, 255, (3, 16, 12) if first else (16, 12, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._observe(), float(action), bool(action == 2), False, {}

    def _observe(self) -> Any:
        return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8)


class Odd(gym.Env[Any, Any]):
    """Takes its spaces, its reward and an event to wait for as arguments."""

    def __init__(self, action: Any = None, observation: Any = None, reward: Any = 0.0, wait: Any = None) -> None:
        self.action_space, self.observation_space = action or spaces.Discrete(2), observation or spaces.Discrete(2)
        self.reward, self.wait = reward, wait

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return 0, {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        if self.wait is not None:
            self.wait.wait()
        return 0, self.reward, False, False, {}


for _id, _class, _limit in (("Everything-v0", Everything, 12), ("Snake-v0", Snake, 30)):
    gym.register(f"tests/{_id}", f"{__name__}:{_class.__name__}", max_episode_steps=_limit)
