"""Gymnasium's batches of envs while a real server is killed, away, and started again at the same port."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from launch import Restarted

from openreward_gym.errors import TransportError

ECHO = {"name": "echo", "arguments": {"text": "a"}}
FINISH = {"name": "finish", "arguments": {"text": "right"}}
KINDS: dict[str, Callable[..., Any]] = {"async": partial(AsyncVectorEnv, context="fork"), "sync": SyncVectorEnv}


# They wait for servers that are away.
pytestmark = pytest.mark.matrix


class Maker:
    """Makes an env that waits for its server for a second."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self) -> gym.Env[Any, Any]:
        limits: dict[str, Any] = {"retry_limits": {"attempts": 2}, "step_timeout_s": 5.0, "reset_timeout_s": 5.0}
        return gym.make("OpenReward-v0", environment="echo", base_url=self.url, **limits)


def check_outage(infos: dict[str, Any], rows: Any) -> None:
    """Check the infos of rows that ended without a server."""
    for row in range(2):
        if rows[row]:
            assert infos["error"][row]
            assert infos["reward_is_null"][row]
            assert infos["stop_reason"][row] in ("session_lost", "outcome_unknown", "deadline")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_batches_outlive_the_death_of_their_server() -> None:
    with Restarted() as server:
        batches = {
            (kind, mode): make([Maker(server.url)] * 2, autoreset_mode=mode)
            for kind, make in KINDS.items()
            for mode in AutoresetMode
        }
        try:
            for envs in batches.values():
                envs.reset(seed=0)
                _, rewards, _, truncated, _ = envs.step((ECHO, ECHO))
                assert not truncated.any()
            server.kill()
            for (kind, mode), envs in batches.items():
                _, rewards, terminated, truncated, infos = envs.step((FINISH, ECHO))
                assert truncated.all(), (kind, mode)
                assert not rewards.any()
                assert not terminated.any()
                # With autoreset in the same step, the infos of the steps are final ones.
                check_outage(infos["final_info"] if mode is AutoresetMode.SAME_STEP else infos, truncated)
                if mode is AutoresetMode.DISABLED and kind == "sync":
                    with pytest.raises(TransportError):
                        envs.reset(options={"reset_mask": truncated})
                    continue
                if mode is AutoresetMode.DISABLED:
                    _, infos = envs.reset(options={"reset_mask": truncated})
                    assert all(infos["error"])
                # The resets of this step fail, or this step is the truncated row of such a reset.
                _, rewards, terminated, _, infos = envs.step((ECHO, FINISH))
                assert not rewards.any()
                assert not terminated.any()
            server.start()
            for (kind, mode), envs in batches.items():
                if mode is AutoresetMode.NEXT_STEP:
                    # The rows whose resets failed end now, and are reset by the step after.
                    assert envs.step((ECHO, ECHO))[3].all()
                    assert not envs.step((ECHO, ECHO))[3].any()
                elif mode is AutoresetMode.DISABLED:
                    envs.reset(options={"reset_mask": truncated})
                else:
                    envs.step((ECHO, ECHO))
                _, rewards, terminated, truncated_rows, infos = envs.step((FINISH, FINISH))
                assert rewards.tolist() == [1.0, 1.0], (kind, mode, infos)
                assert terminated.all()
                assert not truncated_rows.any()
                envs.reset(seed=1)
            server.kill()
            # A reset that the caller requests ends no worker, either; the next step is truncated.
            envs = batches["async", AutoresetMode.NEXT_STEP]
            _, infos = envs.reset(seed=2)
            assert all(infos["error"])
            assert envs.step((ECHO, ECHO))[3].all()
        finally:
            for envs in batches.values():
                envs.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_the_first_reset_without_a_server_raises() -> None:
    with Restarted() as server:
        envs = AsyncVectorEnv([Maker(server.url)] * 2, context="fork")
        server.kill()
        try:
            with pytest.raises(TransportError):
                envs.reset(seed=0)
        finally:
            envs.close(terminate=True)
