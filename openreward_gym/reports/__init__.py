"""Statistics of runs: summaries, paired comparisons, charts and a report page.

from openreward_gym import RolloutStore
from openreward_gym.reports import compare, summarize

first, second = RolloutStore("runs/first"), RolloutStore("runs/second")
print(summarize(first).to_text())
print(compare(first, second).difference)
"""

from openreward_gym.reports.plots import Chart, to_svg, write_pngs
from openreward_gym.reports.report import Report, make_report, to_html, write_html
from openreward_gym.reports.statistics import Comparison, compare, pass_at_k, pass_hat_k, reward_interval
from openreward_gym.reports.summary import Summary, TaskSummary, ToolSummary, summarize

__all__ = [
    "Chart",
    "Comparison",
    "Report",
    "Summary",
    "TaskSummary",
    "ToolSummary",
    "compare",
    "make_report",
    "pass_at_k",
    "pass_hat_k",
    "reward_interval",
    "summarize",
    "to_html",
    "to_svg",
    "write_html",
    "write_pngs",
]
