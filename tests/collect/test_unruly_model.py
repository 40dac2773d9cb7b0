"""A model server that misbehaves in every way: nothing that was not said is played, counted, rewarded or trained."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from unruly_model import UNSAID, WORD, Ledger, misbehaving

from openreward_gym import collect, export, serve
from openreward_gym.chat.provider_words import WORDINGS
from openreward_gym.collect import CollectionResult, RetryBudget
from openreward_gym.collect.retries import BUDGETS

LONG = bool(os.environ.get("OPENREWARD_GYM_LONG"))
TURNS = 2_500 if LONG else 250
"""Requests at least that each provider's model is asked."""

POLICIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "chat": ("openai:m", "/v1", {}),
    "responses": ("openai:m", "/v1", {"api": "responses"}),
    "anthropic": ("anthropic:m", "", {}),
    "gemini": ("google:m", "", {}),
}
# A refused key ends the run.
FAILURES = [(one.kind, one.status, one.body) for one in WORDINGS if one.kind != "bad_key"]
FORMATS = ("sft", "prompt_completion", "preference", "kto", "openai", "sharegpt", "axolotl", "verl_sft")
ENDS = {"finished", "content_filter", "context_overflow", "refusal", "length", "no_action"}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEDGER", str(tmp_path / "ledger"))
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "stand-in-key-0123456789")


def play(base_url: str, url: str, policy: str, output: Path, options: dict[str, Any], repeats: int) -> CollectionResult:
    quick = {kind: RetryBudget(6, first_wait_s=0.01, longest_wait_s=0.05) for kind in BUDGETS}
    return collect(
        "ledger",
        policy,
        base_url=base_url,
        policy_url=url,
        # With a known limit, responses with status 429 slow the run down less.
        policy_options={"patience_s": 3.0, "requests_per_minute": 1e6, **options},
        repeats=repeats,
        concurrency=32,
        retries=quick,
        output=output,
        progress=False,
        fail_on_error=0,
        run_timeout_s=1500.0 if LONG else 120.0,
    )


@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::openreward_gym.export.LeftOutWarning")
@pytest.mark.parametrize("provider", POLICIES)
def test_nothing_that_was_not_said_counts(provider: str, tmp_path: Path) -> None:
    policy, path, options = POLICIES[provider]
    with serve.local([Ledger]) as base_url, misbehaving(7, 0.4, FAILURES) as model:
        result = play(base_url, model.url + path, policy, tmp_path / "run", options, TURNS // 80)
    assert model.asked >= TURNS
    assert not result.interrupted
    # Every unit has one outcome.
    coverage = result.coverage
    assert coverage.missing == 0
    assert coverage.successful + coverage.failed == coverage.expected
    records = list(result.store)
    assert len({(record.group, record.sample) for record in records}) == len(records) == coverage.successful
    # Nothing was played in the model's name, and no reward was invented.
    told = [json.loads(line) for line in (tmp_path / "ledger").read_text().splitlines()]
    assert {text for _, text in told} == {WORD}
    rewarded = [record for record in records if record.reward is not None]
    assert {record.reward for record in rewarded} == {1.0}
    assert len(rewarded) == sum(tool == "hand_in" for tool, _ in told)
    assert all(record.status == "completed" for record in rewarded)
    assert all(record.status == "truncated" for record in records if record.reward is None)
    assert result.metrics.mean_reward == 1.0
    # What happened is in the records and the failures, under its own names.
    ends = Counter(record.stop_reason for record in records)
    assert ends["finished"] > len(records) / 2
    assert ends.keys() <= ENDS
    assert sum(model.done.values()) > 0.3 * model.asked, "the model behaved too well"
    _check_exports(tmp_path)


def _check_exports(folder: Path) -> None:
    """Every target of every format says something, and nothing that was not said."""
    report = export.write(folder / "run", folder / "out", formats=FORMATS)
    for name in FORMATS:
        rows = list(export.to_dataset(folder / "run", format=name, return_report=True)[0])
        assert rows or name in ("preference", "verl_sft"), (name, report)
        for row in rows:
            for turn in _trained(row):
                said = [turn.get(field) for field in ("content", "value", "tool_calls", "reasoning_content")]
                assert any(said), (name, row)
                # A call as text and a thought alone are whole turns of the model: they reached no tool, but they were said.
                is_whole = "<tool_call>" in json.dumps(turn) or not any(said[:3]) or "<think>" in json.dumps(turn)
                assert UNSAID not in json.dumps(turn) or is_whole, (name, row)


def _trained(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The assistant's turns of a row, in whichever column they are; those of a prompt, and of weight 0, are context."""
    conversations = [column for name, column in row.items() if isinstance(column, list) and name != "prompt"]
    turns = [turn for column in conversations for turn in column if isinstance(turn, dict)]
    sampled = [turn for turn in turns if turn.get("role", turn.get("from")) in ("assistant", "gpt", "function_call")]
    return [turn for turn in sampled if turn.get("weight") != 0 and turn.get("train", turn.get("training")) is not False]
