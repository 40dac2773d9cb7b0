"""The figures of charts: which rollouts count, steps, histograms with common edges, shares, and what is new or gone."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from viewer_runs import simple, training
from viewer_serving import viewing

from openreward_gym.errors import ConfigurationError
from openreward_gym.store import Label, RolloutStore, write_label
from openreward_gym.viewer.answers import chart_metrics, charts
from openreward_gym.viewer.index import RunIndex


def indexed(tmp_path: Path) -> RunIndex:
    index = RunIndex([tmp_path / "runs"], tmp_path / "index.sqlite")
    index.refresh()
    return index


def mixed(tmp_path: Path) -> RolloutStore:
    """A run of three steps; in the last one everything was discarded."""
    store = RolloutStore(tmp_path / "runs" / "mixed")
    for step, (kept, discarded) in enumerate([([0.0, 1.0], [1.0, 1.0]), ([0.25], [0.75]), ([], [0.0, 0.0])]):
        for number, reward in enumerate(kept + discarded):
            reason = None if number < len(kept) else "zero_advantage" if step != 1 else "too late"
            store.append(
                simple(
                    f"{step}-{number}", "x", step=step, reward=reward, discard_reason=reason, group=f"g{reason}", sample=number
                )
            )
    return store


def test_all_rollouts_of_a_step_count_and_kept_or_discarded_ones_if_asked(tmp_path: Path) -> None:
    mixed(tmp_path)
    index = indexed(tmp_path)
    found = {which: charts.series(index, "mixed", "reward", "", which) for which in ("all", "kept", "discarded")}
    assert (found["all"]["steps"], found["all"]["mean"], found["all"]["count"]) == ([0, 1, 2], [0.75, 0.5, 0.0], [4, 2, 2])
    assert (found["kept"]["steps"], found["kept"]["mean"]) == ([0, 1], [0.5, 0.25])
    assert (found["discarded"]["steps"], found["discarded"]["mean"]) == ([0, 1, 2], [1.0, 0.75, 0.0])
    assert charts.series(index, "mixed", "reward", "") == found["all"]
    assert charts.series(index, "mixed", "reward", "reward < 1", "discarded")["mean"] == [0.75, 0.0]
    with pytest.raises(ConfigurationError, match="all, kept, discarded"):
        charts.series(index, "mixed", "reward", "", "some")


def test_the_share_of_discarded_rollouts_and_their_reasons_are_metrics(tmp_path: Path) -> None:
    mixed(tmp_path)
    index = indexed(tmp_path)

    def means(metric: str) -> list[float]:
        found: list[float] = charts.series(index, "mixed", metric, "")["mean"]
        return found

    assert means("discarded share") == [0.5, 0.5, 1.0]
    assert means("discarded: zero_advantage") == [0.5, 0.0, 1.0]
    assert means("discarded: too late") == [0.0, 0.5, 0.0]
    assert charts.series(index, "mixed", "discarded share", "", "kept")["mean"] == [0.5, 0.5, 1.0], "always of all"
    names = [share["name"] for share in chart_metrics.catalogue(index, ["mixed"])["shares"]]
    assert names[:4] == ["discarded share", "discarded: too late", "discarded: zero_advantage", "errors share"]


def test_shares_of_groups_are_of_groups_of_several_samples_in_one_step(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    groups: dict[tuple[int, str], list[float]] = {
        (0, "a"): [-1, -1], (0, "b"): [3, 3, 3], (0, "c"): [-1, 3], (0, "alone"): [3], (1, "a"): [2, 2], (1, "b"): [-1],
    }  # fmt: skip
    for (step, group), rewards in groups.items():
        for sample, reward in enumerate(rewards):
            store.append(
                simple(f"{step}{group}{sample}", "x", step=step, group=group, sample=sample, reward=reward,
                       metadata={"ranges": {"reward": [-1, 3]}})
            )  # fmt: skip
    store.append(simple("none", "x", step=0, group="c", sample=9, reward=None))
    index = indexed(tmp_path)
    found = charts.series(index, "one", "zero-advantage groups", "")
    assert (found["count"], found["unit"]) == ([3, 1], "groups")
    assert found["mean"] == [pytest.approx(2 / 3, abs=1e-5), 1.0]
    assert charts.series(index, "one", "all-0 groups", "")["mean"] == [pytest.approx(1 / 3, abs=1e-5), 0.0]
    assert charts.series(index, "one", "all-1 groups", "")["mean"] == [pytest.approx(1 / 3, abs=1e-5), 0.0]


def test_ends_are_counted_and_running_rollouts_are_not(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    for number, status in enumerate(["completed", "error", "error", "truncated", "running"]):
        store.append(simple(str(number), "x", step=0, reward=1.0 if status == "completed" else 0.0, status=status))
    index = indexed(tmp_path)
    assert charts.series(index, "one", "errors share", "")["mean"] == [0.5]
    assert charts.series(index, "one", "truncated share", "")["mean"] == [0.25]
    assert charts.series(index, "one", "reward", "")["count"] == [4]


def test_figures_of_steps_are_those_of_numpy(tmp_path: Path) -> None:
    draw = np.random.default_rng(4)
    store = RolloutStore(tmp_path / "runs" / "one")
    values: dict[int, list[float]] = {}
    for number in range(200):
        step, value = int(draw.integers(0, 9)), float(draw.normal())
        values.setdefault(step, []).append(value)
        store.append(simple(str(number), "x", step=step, metrics={"m": value}))
    found = charts.series(indexed(tmp_path), "one", "m", "")
    assert found["steps"] == sorted(values)
    for place, step in enumerate(found["steps"]):
        those = np.array(values[step])
        expected = [
            len(those),
            those.mean(),
            those.std(),
            those.min(),
            those.max(),
            *np.quantile(those, [0.05, 0.25, 0.5, 0.75, 0.95]),
        ]
        figures = [found[name][place] for name in ("count", "mean", "std", "min", "max", "p05", "p25", "p50", "p75", "p95")]
        assert figures == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "name", ['say "hi"', "a.b.c", "größe/日本", "timing/x", "it's", "a\\b", "discarded share", "tokens", "metric.x", "$[0]", " "]
)
def test_a_metric_may_have_any_name(tmp_path: Path, name: str) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    store.append(simple("a", "x", step=3, metrics={name: 7.0}))
    with viewing(tmp_path / "runs") as url:
        offered = [one["name"] for one in asked(url, "chart_metrics", runs=encoded("one"))["own"]]
        assert offered in ([name], [f"metric.{name}"])
        assert asked(url, "series", run="one", metric=offered[0])["mean"] == [7.0]
        assert asked(url, "series", run="one", metrics=encoded(offered[0], "reward"))["series"][0]["mean"] == [7.0]
        assert asked(url, "histogram", run="one", metric=offered[0], every=1)["histograms"][0]["counts"] == [1]


def encoded(*names: str) -> str:
    return ",".join(quote(name, safe="") for name in names)


def asked(url: str, name: str, **parameters: object) -> Any:
    with urllib.request.urlopen(f"{url}/api/{name}?{urlencode(parameters)}", timeout=20) as answer:
        return json.load(answer)


def test_values_that_are_no_numbers_are_counted_and_in_no_figure(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    for number, value in enumerate([1.0, float("nan"), float("nan"), float("inf"), float("-inf"), None, 3.0]):
        store.append(simple(str(number), "x", step=number % 2, reward=value, metrics={"m": value, "other": 1.0}))
    index = indexed(tmp_path)
    for metric in ("reward", "m"):
        found = charts.series(index, "one", metric, "")
        assert (found["steps"], found["mean"], found["nan"], found["infinite"]) == ([0], [2.0], 2, 2)
        (bars,) = charts.histograms(index, ["one"], metric, "", None, True, ["all"])["histograms"]
        assert (sum(bars["counts"]), bars["nan"], bars["infinite"]) == (2, 2, 2)
    assert charts.series(index, "one", "other", "")["nan"] == 0
    assert charts.series(index, "one", "unknown", "")["steps"] == []
    assert charts.series(index, "nowhere", "reward", "")["steps"] == []


def test_histograms_of_several_runs_have_common_edges(tmp_path: Path) -> None:
    rewards: dict[str, list[float | None]] = {"low": [0.0, 0.1, 0.25], "high": [0.9, 2.0], "none": [None]}
    for run, values in rewards.items():
        store = RolloutStore(tmp_path / "runs" / run)
        for number, value in enumerate(values):
            store.append(simple(f"{run}{number}", "x", reward=value, discard_reason="late" if number == 1 else None))
    index = indexed(tmp_path)
    found = charts.histograms(index, ["low", "high", "none"], "reward", "", None, True, ["kept", "discarded"])
    assert (len(found["edges"]), found["edges"][0], found["edges"][-1], found["integers"]) == (25, 0.0, 2.0, False)
    told = {(one["run"], one["which"]): one["counts"] for one in found["histograms"]}
    assert [sum(told[place]) for place in told] == [2, 1, 1, 1, 0, 0]
    assert (told["low", "kept"][0], told["low", "discarded"][1], told["high", "discarded"][-1]) == (1, 1, 1)
    assert all(len(counts) == 24 for counts in told.values())


def test_bins_of_integers_are_centred_and_hold_the_same_number_of_them() -> None:
    for low, high in [(0, 1), (3, 3), (-5, 40), (1, 24), (0, 1000)]:
        edges, integers = charts.bins(np.array([low, high], dtype=float))
        assert integers
        widths = np.diff(edges)
        assert (widths == widths[0]).all()
        assert widths[0] == int(widths[0])
        assert (edges % 1 == 0.5).all()
        assert (edges[0], edges[-1] > high) == (low - 0.5, True)
        assert len(edges) <= charts.BINS + 1
    edges, integers = charts.bins(np.array([0.5, 0.5]))
    assert (len(edges), edges[0] < 0.5 < edges[-1], integers) == (2, True, False)
    edges, _ = charts.bins(np.array([-1.5e308, 1.5e308]))
    assert (np.isfinite(edges).all(), len(edges)) == (True, 25)
    assert len(charts.bins(np.array([]))[0]) == 0


def test_what_is_new_replaced_or_gone_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    store = RolloutStore(folder)
    store.append(simple("a", "x", step=0, reward=0.0))
    index = indexed(tmp_path)

    def told() -> tuple[list[int], list[float]]:
        index.refresh()
        found = charts.series(index, "one", "reward", "")
        return found["count"], found["mean"]

    assert told() == ([1], [0.0])
    store.append(simple("b", "x", step=0, reward=1.0, metrics={"late": 2.0}))
    assert told() == ([2], [0.5])
    assert charts.series(index, "one", "late", "")["mean"] == [2.0]
    assert charts.series(index, "one", "late", "")["count"] == [1]
    store.append(simple("a", "x", step=0, reward=0.5))
    assert told() == ([2], [0.75]), "the same id again: the last one counts"
    write_label(folder, Label("b", 5, (), ""))
    index.refresh()
    assert charts.series(index, "one", "reward", "rating == 5")["mean"] == [1.0]
    write_label(folder, Label("b", 1, (), ""))
    index.refresh()
    assert charts.series(index, "one", "reward", "rating == 5")["mean"] == []
    (shard,) = (folder / "rollouts").glob("*.jsonl")
    lines = shard.read_text().replace('"reward":1.0', '"reward":0.0')
    (folder / "new").write_text(lines)
    (folder / "new").replace(shard)
    assert told() == ([2], [0.25]), "a file of the same length in its place"
    shutil.rmtree(folder)
    assert told() == ([], [])


def test_a_change_in_one_run_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training(tmp_path / "runs", steps=2)
    index = indexed(tmp_path)
    before = charts.series(index, "training", "reward", "")
    read: list[int] = []
    rows = index.rows

    def counted(sql: str, parameters: Any = ()) -> list[Any]:
        found = rows(sql, parameters)
        if "ORDER BY pk" in sql:
            read.append(len(found))
        return found

    monkeypatch.setattr(index, "rows", counted)
    assert charts.series(index, "training", "entropy", "")["steps"] == [0, 1]
    assert read == []
    RolloutStore(tmp_path / "runs" / "training").append(simple("new", "x", run="training", step=2, reward=1.0))
    index.refresh()
    assert charts.series(index, "training", "reward", "")["mean"] == [*before["mean"], 1.0]
    assert read == [1]


def test_several_metrics_in_one_request(tmp_path: Path) -> None:
    training(tmp_path / "runs", steps=3)
    with viewing(tmp_path / "runs") as url:
        answer = asked(url, "series", run="training", metrics=encoded("reward", "entropy"), which="kept", filter="sample < 2")
        assert [one["metric"] for one in answer["series"]] == ["reward", "entropy"]
        single = asked(url, "series", run="training", metric="entropy", which="kept", filter="sample < 2")
        assert answer["series"][1] == single
        for parameters in ({"metrics": encoded(*map(str, range(101)))}, {"metric": "reward", "which": "other"}, {}):
            with pytest.raises(urllib.error.HTTPError, match="400"):
                asked(url, "series", run="training", **parameters)
        bars = asked(url, "histogram", runs=encoded("training", "nowhere"), metric="reward", step=1, which="kept,discarded")
        assert [(one["run"], one["which"]) for one in bars["histograms"]] == [
            ("training", "kept"), ("training", "discarded"), ("nowhere", "kept"), ("nowhere", "discarded"),
        ]  # fmt: skip
        assert sum(sum(one["counts"]) for one in bars["histograms"]) == 16


def test_the_catalogue_has_the_metrics_of_all_rollouts(tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "one")
    for number in range(150):
        metrics = {"rare": 1.0} if 70 <= number < 75 else {"usual": 1.0}
        store.append(simple(str(number), "x", step=number, metrics=metrics))
    RolloutStore(tmp_path / "runs" / "two").append(simple("a", "x", metrics={"its own": 1.0}, cost_usd=0.5))
    index = indexed(tmp_path)
    names = {section: [one["name"] for one in each] for section, each in chart_metrics.catalogue(index, ["one", "two"]).items()}
    assert names["own"] == ["usual", "rare", "its own"]
    assert names["built_in"][0] == "reward"
    assert "cost" in names["built_in"]
    assert "cost" not in [one["name"] for one in chart_metrics.catalogue(index, ["one"])["built_in"]]
    assert "zero-advantage groups" in names["shares"]
