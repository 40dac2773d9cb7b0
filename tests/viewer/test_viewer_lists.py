"""Lists, steps, metrics and the selection of many rollouts, as the index answers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from viewer_runs import simple, training
from viewer_serving import viewing

from openreward_gym.errors import ConfigurationError
from openreward_gym.reports import summarize
from openreward_gym.store import RolloutStore, read_labels
from openreward_gym.types import AssistantMessage, Message, TextBlock, ToolCall, ToolMessage, UserMessage
from openreward_gym.viewer.answers import bulk, charts, lists
from openreward_gym.viewer.answers.discards import discards
from openreward_gym.viewer.answers.selecting import check_filter, metric_names
from openreward_gym.viewer.filters import complete, field_name
from openreward_gym.viewer.index import RunIndex
from openreward_gym.viewer.rows import unnoticed_errors
from openreward_gym.viewer.server import make_extensions

ODD_NAMES = ["", 'a "b" c', "a.b", "$", "[0]", "größe", "it's", "back\\slash", "per%22cent", "line\nbreak", "reward", "metric.x"]


def indexed(tmp_path: Path) -> RunIndex:
    index = RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite")
    index.refresh()
    return index


def listed(index: RunIndex, *, run: str = "one", step: int | None = None, **options: Any) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(lists.listing(index, run, step, False, "", 0, **options))
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [card["id"] for group in answer["groups"] for card in group["cards"]]


def test_a_run_has_one_mean_everywhere(tmp_path: Path) -> None:
    training(tmp_path / "runs", steps=6)
    index = indexed(tmp_path)
    (run,) = lists.runs(index)["runs"]
    steps = lists.steps(index, "training", False, "")
    assert run["discarded"] > 0
    assert sum(step["rollouts"] for step in steps) == run["rollouts"]
    assert sum(step["discarded"] for step in steps) == run["discarded"]
    # Each task has as many rollouts in each step, so the means of the steps have the run's mean.
    assert run["reward"] == pytest.approx(sum(step["reward"] for step in steps) / len(steps))
    rewards = [reward for (reward,) in index.rows("SELECT reward FROM rollouts")]
    assert run["reward"] == pytest.approx(sum(rewards) / len(rewards))
    assert summarize(RolloutStore.open(tmp_path / "runs" / "training")).mean_reward == pytest.approx(run["reward"])


def test_a_step_in_which_all_were_discarded_is_a_step(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    for step in range(3):
        for sample in range(2):
            reason = "zero_advantage" if step == 1 else None
            store.append(simple(f"{step}-{sample}", "x", step=step, sample=sample, reward=float(step), discard_reason=reason))
    index = indexed(tmp_path)
    assert [(s["step"], s["kept"], s["discarded"], s["groups"]) for s in lists.steps(index, "one", False, "")] == [
        (0, 2, 0, 1), (1, 0, 2, 0), (2, 2, 0, 1)]  # fmt: skip
    assert [s["groups"] for s in lists.steps(index, "one", True, "")] == [0, 1, 0]
    figures = discards(index, "one", 1, "")
    assert figures["step"]["reasons"] == [["zero_advantage", 2]]
    assert (figures["run"]["discarded"], figures["run"]["rollouts"]) == (2, 6)
    assert (figures["run"]["groups"], figures["run"]["all_zero"], figures["run"]["all_one"]) == (3, 1, 1)
    found = [(one["step"], one["kept"], one["discarded"]) for one in lists.steps_of_group(index, "one", "g")]
    assert found == [(2, 2, 0), (1, 0, 2), (0, 2, 0)]


def test_groups_stay_together_in_any_order(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    rewards: dict[str, list[float | None]] = {"a": [0.1, 0.9], "b": [0.6, 0.5], "c": [None, None], "d": [1.0, None]}
    for sample in range(2):
        for group, values in rewards.items():
            store.append(simple(f"{group}{sample}", "x", group=group, sample=sample, reward=values[sample]))
    index = indexed(tmp_path)
    assert ids(listed(index)) == ["a0", "a1", "b0", "b1", "c0", "c1", "d0", "d1"]
    falling = listed(index, sort="-reward")
    assert ids(falling) == ["d0", "d1", "b0", "b1", "a1", "a0", "c0", "c1"]
    assert (falling["rollouts"], falling["sizes"]) == (8, [[2, 4]])
    assert ids(listed(index, sort="reward")) == ["a0", "a1", "b1", "b0", "d0", "d1", "c0", "c1"]
    flat = listed(index, sort="-reward", flat=True)
    assert ids(flat) == ["d0", "a1", "b0", "b1", "a0", "c0", "c1", "d1"]
    assert flat["sizes"] == []
    assert ids(listed(index, sort="-reward", limit=3)) == ["d0", "d1", "b0"]
    options = {"sort": "-reward", "flat": False}
    assert lists.position(index, "one", None, False, "", rollout_id="a0", **options) == {"position": 5}  # type: ignore[arg-type]
    assert lists.position(index, "one", None, False, "", rollout_id="zz", **options) == {"position": None}  # type: ignore[arg-type]
    assert lists.ids(index, "one", None, False, "reward > 0.5", sort="-reward") == ["d0", "a1", "b0"]
    with pytest.raises(ConfigurationError, match=r"no field or metric `rewards` in this run\. Did you mean `reward`"):
        listed(index, sort="-rewards")
    with pytest.raises(ConfigurationError, match="has several values"):
        listed(index, sort="tool")


def test_an_order_follows_new_rollouts(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    store.append(simple("a", "x", group="a", reward=0.1))
    index = indexed(tmp_path)
    assert ids(listed(index, sort="-reward")) == ["a"]
    store.append(simple("b", "x", group="b", reward=0.2))
    index.refresh()
    assert ids(listed(index, sort="-reward")) == ["b", "a"]


def test_metrics_of_all_rollouts_are_in_the_catalogue(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    for number in range(300):
        metrics = {"rare": float(number)} if number == 150 else {"common": number / 300}
        ranges = (
            {"common": [0, 1]} if number < 100 else {"common": [-2, 0.5], "rare": {"min": 0, "max": 9, "lower_is_better": True}}
        )
        store.append(simple(f"{number:03}", "x", metrics=metrics, metadata={"ranges": ranges}))
    index = indexed(tmp_path)
    (run,) = lists.runs(index)["runs"]
    assert run["metrics"] == ["common", "rare"]
    assert run["observed"]["rare"] == {"count": 1, "min": 150.0, "max": 150.0}
    assert run["observed"]["common"]["count"] == 299
    assert run["ranges"]["common"] == {"min": -2, "max": 1, "lower_is_better": False}
    assert run["ranges"]["rare"] == {"min": 0, "max": 9, "lower_is_better": True}
    store.append(simple("150", "x", metrics={"new": 1.0}))
    index.refresh()
    (run,) = lists.runs(index)["runs"]
    assert run["metrics"] == ["common", "new"], "a rollout that was written again has its last metrics"
    for shard in (tmp_path / "runs" / "one" / "rollouts").iterdir():
        shard.unlink()
    index.refresh()
    assert index.rows("SELECT count(*) FROM metrics") == [(0,)]


def test_metrics_may_have_any_name(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    for number in range(4):
        store.append(simple(str(number), "x", reward=0.5, metrics={name: float(number + n) for n, name in enumerate(ODD_NAMES)}))
    index = indexed(tmp_path)
    assert metric_names(index, "one") == ODD_NAMES
    for number, name in enumerate(ODD_NAMES):
        filter_ = f"{field_name(name)} > {number + 1.5} and reward == 0.5"
        check_filter(index, "one", filter_)
        assert lists.ids(index, "one", None, False, filter_) == ["2", "3"], name
        assert ids(listed(index, sort=f"-metric.{name}", flat=True)) == ["3", "2", "1", "0"], name
        assert sum(charts.histogram(index, "one", f"metric.{name}", "", None, True)["counts"]) == 4
        assert field_name(name) in [suggestion for suggestion, _ in complete("", 0, ODD_NAMES).suggestions]
    assert [name for name, _ in complete('metric."a', 9, ODD_NAMES).suggestions] == ['metric."a \\"b\\" c"']
    assert complete(r'metric."a \"b\" c" ', 19, ODD_NAMES).kind == "operator"


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        ("rewrad > 1", "There is no field or metric `rewrad` in this run. Did you mean `reward`?"),
        ("formt > 1", "There is no field or metric `formt` in this run. Did you mean `format`?"),
        ("reward > 1 or not (qqq in (1, 2))", "There is no field or metric `qqq` in this run."),
        ("metric.entropi > 1", "There is no metric `entropi` in this run. Did you mean `entropy`?"),
        ('metric."for mat" > 1', "There is no metric `for mat` in this run. Did you mean `format`?"),
    ],
)
def test_an_unknown_field_is_named_with_the_nearest(tmp_path: Path, filter_: str, message: str) -> None:
    training(tmp_path / "runs", steps=1)
    with viewing(tmp_path / "runs") as url, httpx.Client(base_url=url) as client:
        for endpoint in ("steps", "list", "ids", "series", "histogram", "search", "discards"):
            answer = client.get(
                f"/api/{endpoint}", params={"run": "training", "filter": filter_, "metric": "reward", "query": "x"}
            )
            assert (answer.status_code, answer.json()) == (400, {"error": message}), endpoint
        known = "reward > 0 and metric.entropy > 0 and running == false and policy_seconds == none and unnoticed_errors == 0"
        assert client.get("/api/steps", params={"run": "training", "filter": known}).status_code == 200


def talk(*turns: Message) -> list[dict[str, Any]]:
    rollout = simple("a", "x")
    rollout.messages = [UserMessage(content=[TextBlock("Go.")]), *turns]
    messages: list[dict[str, Any]] = json.loads(rollout.to_line())["messages"]
    return messages


def says(text: str, *tools: str) -> AssistantMessage:
    return AssistantMessage(
        content=[TextBlock(text), *(ToolCall(call_id=f"c-{tool}", name=tool, arguments={}) for tool in tools)]
    )


def fails(tool: str) -> ToolMessage:
    return ToolMessage(call_id=f"c-{tool}", name=tool, is_error=True, content=[TextBlock("No such file")])


@pytest.mark.parametrize(
    ("turns", "count"),
    [
        ([says("Look.", "bash"), fails("bash"), says("The file has 3 lines.")], 1),
        ([says("Look.", "bash"), fails("bash"), says("The command failed.")], 0),
        ([says("Look.", "bash"), fails("bash"), says("Now this.", "bash")], 0),
        ([says("Look.", "bash"), fails("bash"), says("Now this.", "python")], 1),
        ([says("Look.", "bash", "python"), fails("bash"), fails("python"), says("Done.")], 2),
        ([says("Look.", "bash"), fails("bash")], 0),
        ([says("Look.", "bash"), ToolMessage(call_id="c-bash", content=[TextBlock("error: none")]), says("Done.")], 0),
    ],
)
def test_errors_that_the_model_does_not_notice(turns: list[Message], count: int) -> None:
    assert unnoticed_errors(talk(*turns)) == count


def test_many_are_labelled_with_what_is_set_only(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    for number in range(5):
        store.append(simple(str(number), "x", reward=number / 5))
    with viewing(tmp_path / "runs") as url, httpx.Client(base_url=url, headers={"Origin": url}) as client:
        named = {"run": "one", "rollouts": ["0", "1"], "set": {"rating": 2}, "add": ["slow"]}
        assert client.post("/api/labels", json=named).json() == {"labelled": 2}
        listed = {"run": "one", "list": {"filter": "reward < 0.3"}, "add": ["odd"], "remove": ["slow"]}
        assert client.post("/api/labels", json=listed).json() == {"labelled": 2}
        labels = read_labels(tmp_path / "runs" / "one")
        assert {key: (label.rating, label.tags) for key, label in labels.items()} == {"0": (2, ("odd",)), "1": (2, ("odd",))}
        for body in (
            {"run": "one", "rollouts": [], "add": ["a"]},
            {"run": "one", "rollouts": ["0"]},
            {"run": "one", "rollouts": ["0", "nobody"], "add": ["a"]},
            {"run": "one", "rollouts": ["0"], "set": {"rating": 9}},
            {"run": "one", "rollouts": ["0"], "set": {"tags": ["a"]}},
            {"run": "one", "list": {"filter": "rewrad > 1"}, "add": ["a"]},
            *({"run": "one", "list": {"step": step}, "add": ["a"]} for step in ("none", 1.5, True, 1 << 63)),
        ):
            assert client.post("/api/labels", json=body).status_code == 400
        assert read_labels(tmp_path / "runs" / "one") == labels
        assert client.post("/api/export", json={"run": "one", "rollouts": ["0"], "format": "sft"}).status_code == 404
    with viewing(tmp_path / "runs") as url:
        assert httpx.post(f"{url}/api/labels", json=named).status_code == 403


def test_the_selection_is_exported_by_the_server_where_it_may(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    for number in range(5):
        store.append(simple(str(number), f"said {number}", reward=number / 5))
    with (
        viewing(tmp_path / "runs", extensions=make_extensions(), allow_export=True) as url,
        httpx.Client(base_url=url, headers={"Origin": url}, timeout=120) as client,
    ):
        answer = client.post("/api/export", json={"run": "one", "rollouts": ["1", "3"], "format": "sft"}).json()
        assert answer["folder"] == str(tmp_path / "runs" / "one" / "export")
        assert answer["rows"] == {"sft": 2}
        assert client.post("/api/export", json={"run": "one", "rollouts": ["1"], "format": "../x"}).status_code == 400


def test_one_html_file_has_the_selection(tmp_path: Path) -> None:
    for run in ("one", "two"):
        store = RolloutStore(tmp_path / "runs" / run)
        for number in range(1_500):
            store.append(simple(str(number), f"said {number} in {run}"))
    index = indexed(tmp_path)
    page = bulk.share(index, {"run": "one", "rollouts": [str(number) for number in range(200, 1_400)]})
    assert b"said 1399 in one" in page
    assert b"said 1400 in one" not in page
    assert b" in two" not in page


@pytest.mark.parametrize("how", ["ids", "filter"])
def test_the_command_exports_a_selection(tmp_path: Path, how: str) -> None:
    store = RolloutStore(tmp_path / "one")
    for number in range(5):
        store.append(simple(str(number), f"said {number}", reward=number / 5))
    (tmp_path / "ids.txt").write_text("1\n3\n")
    option = ["--ids", str(tmp_path / "ids.txt")] if how == "ids" else ["--filter", "reward in (0.2, 0.6)"]
    command = [sys.executable, "-m", "openreward_gym.cli", "export", str(tmp_path / "one"), "--format", "sft", *option, "--json"]
    ended = subprocess.run([*command, "--output", str(tmp_path / "out")], capture_output=True, text=True, check=True)
    assert json.loads(ended.stdout)["formats"]["sft"]["rows"] == 2
    wrong = ["--ids", str(tmp_path / "none")] if how == "ids" else ["--filter", "rewrad > 1"]
    ended = subprocess.run([*command[:7], *wrong], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ("No such file" if how == "ids" else "Did you mean `reward`?") in ended.stderr
