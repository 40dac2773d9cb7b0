"""The record's JSON Schema, for readers in other languages; published as `rollout.schema.json` beside this file.

python -m openreward_gym.store.schema > openreward_gym/store/rollout.schema.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

from openreward_gym.types.rollout import SCHEMA, Rollout

PUBLISHED = "rollout.schema.json"


def rollout_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a line of a run's `rollouts/*.jsonl`.

    Fields it does not name are allowed everywhere: a reader keeps them.
    """
    schema = Rollout.model_json_schema(by_alias=True)
    name = {"const": SCHEMA, "type": "string", "description": "The record's format and its major version."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA,
        **schema,
        "properties": {"schema": name, **schema["properties"]},
        "required": ["schema", "id", *(field for field in schema.get("required", ()) if field != "id")],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(rollout_schema(), indent=2) + "\n")
