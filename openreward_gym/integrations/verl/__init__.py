"""verl: an agent loop that plays an environment, and the files that its trainer reads.

    from openreward_gym.integrations import verl

    files = verl.prepare("weather", "data/weather", base_url="http://127.0.0.1:8080", output="runs/verl")
    subprocess.run(["python", "-m", "verl.trainer.main_ppo", *files.overrides, "actor_rollout_ref.model.path=...", ...])

`prepare` needs no verl. `EpisodeAgentLoop` is imported by verl's workers, from the name in the file of agent loops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openreward_gym.errors import MissingExtraError
from openreward_gym.integrations.verl.dataset import VerlFiles, prepare

if TYPE_CHECKING:
    from openreward_gym.integrations.verl.agent_loop import EpisodeAgentLoop

__all__ = ["EpisodeAgentLoop", "VerlFiles", "prepare"]

if not TYPE_CHECKING:  # the agent loop is a subclass of verl's, so that importing it imports verl

    def __getattr__(name: str) -> Any:
        if name != "EpisodeAgentLoop":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from openreward_gym.integrations.verl.agent_loop import EpisodeAgentLoop
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in ("omegaconf", "verl"):
                raise
            raise MissingExtraError(
                f"{name} needs the package verl, which is not installed: pip install 'openreward-gym[verl]'"
            ) from error
        return EpisodeAgentLoop
