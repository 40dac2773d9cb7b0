"""NeMo Gym's rollout files: the line a rollout came from, or one made for it."""

from __future__ import annotations

import base64
import copy
from collections.abc import Iterator, Sequence

from openreward_gym.export.conversation import Conversation
from openreward_gym.export.formats.archive import image_parts
from openreward_gym.export.formats.base import Format
from openreward_gym.export.tables import Columns, Row
from openreward_gym.importers import nemo_gym
from openreward_gym.types.rollout import Rollout


class NemoGym(Format):
    """What `openreward_gym.importers.nemo_gym` writes: `responses_create_params`, `response`, `reward` and the rest."""

    name = "nemo_gym"
    about = "rollouts as NeMo Gym writes them (with all that was imported from it, answers too)"
    file = "jsonl"
    statuses = None
    trains = False
    image_column = False
    further_keys = True

    def columns(self) -> Columns:
        return {"responses_create_params": "object", "response": "object", "reward": "float", "agent_ref": "object"}

    def all_columns(self) -> Columns:
        return self.columns()

    def rows(self, conversations: Sequence[Conversation]) -> Iterator[Row]:
        (conversation,) = conversations
        record = conversation.original
        messages = record.get("messages") or []
        if any(part.get("data") is None for part in image_parts(messages)):
            record = {**record, "messages": copy.deepcopy(messages)}
            for part in image_parts(record["messages"]):
                content = self.context.read_image(part)
                if content is not None:
                    part["data"] = base64.b64encode(content).decode("ascii")
                    part.pop("sha256", None)
        yield nemo_gym.row_of(Rollout.from_dict(record))
