"""Validates rows with the types of the installed NeMo Gym: `python nemo_types.py ROWS.jsonl` prints a JSON list of faults."""

import json
import sys
from collections.abc import Iterator
from typing import Any

import orjson
from nemo_gym.base_resources_server import BaseVerifyRequest, BaseVerifyResponse
from nemo_gym.openai_utils import NeMoGymResponse, NeMoGymResponseCreateParamsNonStreaming
from pydantic import ValidationError


def faults_of(row: dict[str, Any]) -> Iterator[str]:
    whole = BaseVerifyRequest if row["reward"] is None else BaseVerifyResponse  # a reward is a number there
    types = (
        (NeMoGymResponseCreateParamsNonStreaming, row["responses_create_params"]),
        (NeMoGymResponse, row["response"]),
        (whole, row),
    )
    for kind, value in types:
        try:
            kind.model_validate(value)
        except ValidationError as error:
            yield from (f"{kind.__name__}: {'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())


def main(path: str) -> None:
    with open(path, "rb") as file:
        print(json.dumps([list(faults_of(orjson.loads(line))) for line in file]))


main(sys.argv[1])
