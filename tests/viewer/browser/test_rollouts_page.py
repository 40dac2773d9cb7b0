"""Runs, rollouts, discarded rollouts and the sample, in a real browser: the checks O1 to D4."""

from __future__ import annotations

import re
from pathlib import Path

from browser_pages import Opener, until
from playwright.sync_api import Locator, Page, expect
from viewer_runs import simple
from viewer_serving import viewing

from openreward_gym import Recorder
from openreward_gym.store import RolloutStore
from openreward_gym.types import AssistantMessage, ReasoningItem, ToolCall, ToolResult, UserMessage

GROUP = "#/rollouts?run=training&step=0&group=step0-task0"
SAMPLE = f"{GROUP}&sample=training-0-0-0"


def section(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def test_o1_runs_then_rollouts_then_the_timeline(opened: Opener) -> None:
    page = opened()
    expect(page.get_by_role("row")).to_have_count(3)
    page.get_by_role("link", name="training").click()
    page.locator(".row").first.click()
    expect(page.get_by_role("article", name="Sample")).to_be_visible()
    expect(page).to_have_url(re.compile(r"sample=training-7-"))


def test_o2_every_message_in_order(opened: Opener) -> None:
    page = opened(SAMPLE)
    expect(page.locator(".sample > .section h2").filter(has_text=re.compile("System|User|Turn"))).to_have_text(
        ["System", "User", "Turn 1 Assistant", "Turn 2 Assistant", "Turn 3 Assistant"]
    )
    expect(section(page, "Turn 1").locator("summary")).to_have_text("Reasoning")
    expect(section(page, "Turn 1").locator(".tool")).to_have_text(["bash", "bash"])
    expect(section(page, "Turn 3").locator(".result")).to_contain_text("Wrong.")


def test_o3_rewards_where_they_were_earned_and_the_end(opened: Opener) -> None:
    page = opened(SAMPLE)
    expect(section(page, "Turn 1").locator(".result .reward")).to_have_text("Reward 0.000")
    expect(section(page, "Turn 3").locator(".result .reward")).to_have_text("Reward 0.250")
    expect(section(page, "Turn 3").locator(".result")).to_contain_text("ends the episode")
    expect(page.locator(".ending")).to_have_text("Finished. Return 0.250.")
    expect(page.locator(".samplebar .status")).to_have_text("Finished")
    page.goto(page.url.split("#")[0] + "#/rollouts?run=training&sample=training-0-3-2")
    expect(page.locator(".ending")).to_have_text(re.compile(r"^Truncated: max steps\. Return [\d.]+\.$"))
    expect(page.locator(".samplebar .status")).to_have_text("Truncated: max steps")


def test_o4_results_stand_with_their_calls(opened: Opener) -> None:
    page = opened(SAMPLE)
    calls = section(page, "Turn 1").locator(".call")
    expect(calls.nth(0)).to_contain_text("call-b")
    expect(calls.nth(0).locator(".result")).to_contain_text("12 b.txt")
    expect(calls.nth(1)).to_contain_text("call-a")
    expect(calls.nth(1).locator(".result")).to_contain_text("3 a.txt")


def test_o5_the_header_says_what_it_is(opened: Opener) -> None:
    page = opened(SAMPLE)
    expect(page.get_by_role("heading", level=1)).to_have_text("Task 0: how many lines are in all the files of /data/set-0?")
    head = page.locator(".sample-facts")
    for text in ("counting / files", "train", "tiny-llm-1b", "300 in", "2026-03-02 09:00:00 UTC"):
        expect(head).to_contain_text(text)
    head.get_by_text("All fields of this rollout").click()
    for text in ("training 0/0/0", "training-0-0-0", "/data/set-0", "temperature", "simulated", "step-0"):
        expect(head).to_contain_text(text)


def test_o6_every_providers_rollouts_look_the_same(opened: Opener, tmp_path: Path) -> None:
    call = '{"city": "Oslo"}'
    with Recorder(tmp_path / "runs" / "providers") as recorder:

        def begun(name: str):  # type: ignore[no-untyped-def]
            rollout = recorder.create(rollout_name=name, environment="weather", group="same", id=name)
            rollout.log(UserMessage("The weather in Oslo?"))
            return rollout

        with begun("generic") as log:
            log.log(AssistantMessage("Looking.", [ToolCall("get_weather", content=call, call_id="c1")]))
            log.log(ToolResult("Rain", call_id="c1"), reward=1.0, is_finished=True)
        with begun("completions") as log:
            function = {"name": "get_weather", "arguments": call}
            log.log_openai_completions(
                {
                    "role": "assistant",
                    "content": "Looking.",
                    "tool_calls": [{"id": "c1", "type": "function", "function": function}],
                }
            )
            log.log_openai_completions({"role": "tool", "tool_call_id": "c1", "content": "Rain"}, reward=1.0, is_finished=True)
        with begun("responses") as log:
            log.log_openai_response(
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Looking."}]}
            )
            log.log_openai_response({"type": "function_call", "call_id": "c1", "name": "get_weather", "arguments": call})
            log.log_openai_response(
                {"type": "function_call_output", "call_id": "c1", "output": "Rain"}, reward=1.0, is_finished=True
            )
        with begun("anthropic") as log:
            use = {"type": "tool_use", "id": "c1", "name": "get_weather", "input": {"city": "Oslo"}}
            log.log_anthropic_message({"role": "assistant", "content": [{"type": "text", "text": "Looking."}, use]})
            answer = {"type": "tool_result", "tool_use_id": "c1", "content": "Rain"}
            log.log_anthropic_message({"role": "user", "content": [answer]}, reward=1.0, is_finished=True)
        with begun("gemini") as log:
            made = {"function_call": {"id": "c1", "name": "get_weather", "args": {"city": "Oslo"}}}
            log.log_gdm_message({"role": "model", "parts": [{"text": "Looking."}, made]})
            back = {"function_response": {"id": "c1", "name": "get_weather", "response": {"result": "Rain"}}}
            log.log_gdm_message({"role": "user", "parts": [back]}, reward=1.0, is_finished=True)
    with viewing(tmp_path / "runs") as base:
        for name in ("generic", "completions", "responses", "anthropic", "gemini"):
            page = opened(f"#/rollouts?run=providers&sample={name}", base=base)
            expect(section(page, "User")).to_contain_text("The weather in Oslo?")
            turn = section(page, "Turn 1")
            expect(turn).to_contain_text("Looking.")
            expect(turn.locator(".call .tool")).to_have_text("get_weather")
            expect(turn.locator(".call .oneline")).to_have_text('get_weather(city="Oslo")')
            turn.get_by_role("button", name="Call of get_weather").click()
            expect(turn.locator(".arguments dt")).to_have_text("city")
            expect(turn.locator(".arguments dd")).to_have_text("Oslo")
            expect(turn.locator(".result")).to_contain_text("Rain")
            expect(turn.locator(".result .reward")).to_have_text("Reward 1.000")


def test_o7_hidden_reasoning_is_never_an_empty_box(opened: Opener) -> None:
    page = opened(SAMPLE)
    thought = section(page, "Turn 2").locator(".think")
    expect(thought).to_contain_text("Hidden reasoning")
    expect(thought).to_contain_text("Weighing two counts.")
    page.get_by_role("button", name="Next sample").click()
    expect(thought).to_contain_text("does not show this reasoning; it gave a reference")


def test_o8_an_address_opens_before_its_rollout_is_written(opened: Opener, tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "live")
    store.append(simple("first", "x"))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=live&sample=later", base=base)
        expect(page.locator(".middle")).to_contain_text("Not written yet")
        store.append(simple("later", "Here I am."))
        expect(section(page, "Turn 1")).to_contain_text("Here I am.")


def test_a1_three_columns(opened: Opener) -> None:
    page = opened(SAMPLE, width=1600)
    boxes = [page.locator(name).bounding_box() for name in (".sidebar", ".middle", ".charts")]
    lefts = [box["x"] for box in boxes if box]
    assert lefts == sorted(lefts)
    assert len(lefts) == 3


def test_a2_a3_discarded_rollouts_are_apart_with_their_reason(opened: Opener) -> None:
    page = opened("#/discarded?run=training&step=5")
    rows = page.locator(".row")
    expect(rows).to_have_count(10)
    assert set(page.locator(".row .badge").all_text_contents()) == {"Max Async", "Zero Advantage"}
    discarded = {link.get_attribute("href") for link in page.locator(".row .open").all()}
    assert rows.count() == page.locator(".row .badge").count()
    page.goto(page.url.replace("discarded", "rollouts"))
    expect(page.locator(".row")).to_have_count(6)
    expect(page.locator(".row .badge")).to_have_count(0)
    kept = {link.get_attribute("href") for link in page.locator(".row .open").all()}
    ids = [{re.search("sample=([^&]+)", href)[1] for href in found} for found in (discarded, kept)]  # type: ignore[index, arg-type]
    assert not ids[0] & ids[1]


def test_b1_moving_by_step(opened: Opener) -> None:
    page = opened("#/rollouts?run=training")
    box = page.get_by_role("textbox", name="Step")
    expect(box).to_have_value("7")
    expect(page.get_by_role("button", name="Next step")).to_be_disabled()
    page.get_by_role("button", name="Previous step").click()
    expect(box).to_have_value("6")
    page.get_by_role("button", name="First step").click()
    expect(box).to_have_value("0")
    page.get_by_role("button", name="Next step").click()
    expect(box).to_have_value("1")
    box.fill("99")
    box.press("Enter")
    expect(box).to_have_value("1")
    expect(page.locator(".sidebar").get_by_role("status")).to_have_text("There is no step 99 in this run; steps go from 0 to 7.")
    box.fill("4")
    box.press("Enter")
    expect(page).to_have_url(re.compile("step=4"))
    page.get_by_role("button", name="Last step").click()
    expect(box).to_have_value("7")
    page.keyboard.press("[")
    expect(box).to_have_value("6")


def test_b2_the_address_is_the_whole_place(opened: Opener) -> None:
    page = opened("#/rollouts?run=training&step=3&group=step3-task1")
    page.get_by_role("row", name=re.compile("^sample 2,")).nth(1).click()
    expect(page).to_have_title("training 3/1/2 – training")
    page.get_by_role("button", name="Raw").click()
    again = opened(page.url.split("/", 3)[3])
    expect(again).to_have_title("training 3/1/2 – training")
    expect(again.get_by_role("textbox", name="Step")).to_have_value("3")
    expect(again.locator("pre.raw")).to_be_visible()
    expect(again.locator(".row.current")).to_have_count(1)


def test_b3_one_card_a_group_and_groups_go_by_id(opened: Opener, tmp_path: Path) -> None:
    store = RolloutStore(tmp_path / "runs" / "r")
    for number in range(4):
        store.append(simple(str(number), "x", group="one" if number < 2 else "two", sample=number % 2))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=r", base=base)
        expect(page.locator(".group")).to_have_count(2)
        expect(page.locator(".group .prompt")).to_have_text(["What do you say?"] * 2)
        expect(page.locator(".group .about")).to_have_text(["one2 samples", "two2 samples"])


def test_b4_a_groups_completions_side_by_side_and_back(opened: Opener) -> None:
    page = opened("#/rollouts?run=training&step=0")
    page.locator(".group").first.click()
    expect(page.locator(".completion")).to_have_count(4)
    expect(section(page, "Prompt")).to_have_count(1)
    tops = {round(box["y"]) for box in (one.bounding_box() for one in page.locator(".completion").all()) if box}
    assert len(tops) == 1
    expect(page.locator(".completion").first).to_contain_text("The answer is")
    middle = page.locator(".middle")
    until(lambda: bool(middle.evaluate("box => box.scrollHeight > 1000")))
    middle.hover(position={"x": 300, "y": 20})
    page.mouse.wheel(0, 300)
    until(lambda: bool(middle.evaluate("box => box.scrollTop === 300")))
    page.locator(".completion h2 a").first.evaluate("link => link.click()")
    expect(page.get_by_role("article", name="Sample")).to_be_visible()
    page.go_back()
    until(lambda: bool(middle.evaluate("box => box.scrollTop === 300")))


def test_b5_b6_dots_say_their_number(opened: Opener) -> None:
    page = opened("#/rollouts?run=training&step=0")
    page.get_by_text("Columns").click()
    for name in ("format", "repetition", "entropy", "broken"):
        page.get_by_role("checkbox", name=name).check()
    row = page.locator(".row").first
    expect(row.locator(".dot")).to_have_count(8)
    titles = [dot.get_attribute("title") for dot in row.locator(".dot").all()]
    assert titles[0] == "reward: 0.25"
    assert titles[-1] == "broken: NaN"
    expect(page.locator(".row").nth(1).locator(".dot").last).to_have_attribute("title", "broken: none (not recorded)")
    expect(row.locator(".dot i").nth(6)).to_have_class("blank")  # entropy has no range

    def shade(index: int, column: int) -> int:
        return int((page.locator(".row").nth(index).locator(".dot i").nth(column).get_attribute("class") or "").strip("gt"))

    assert shade(0, 0) < shade(1, 0) == 10
    assert shade(0, 1) < 5 < shade(1, 1)
    low, high = sorted(range(4), key=lambda n: float(page.locator(".row").nth(n).locator(".dot").nth(5).text_content() or ""))[
        ::3
    ]
    assert shade(low, 5) > shade(high, 5), "low repetition is good"


def test_b7_columns_survive_a_reload(opened: Opener) -> None:
    page = opened("#/rollouts?run=training&step=0")
    expect(page.locator(".names span")).to_have_text(["", "Sample", "reward", "advantage", "tokens", "turns"])
    page.get_by_text("Columns").click()
    page.get_by_role("checkbox", name="turns").uncheck()
    page.get_by_role("checkbox", name="format").check()
    page.reload()
    expect(page.locator(".names span")).to_have_text(["", "Sample", "reward", "advantage", "tokens", "format"])


def test_c1_c2_c3_c4_the_full_sample(opened: Opener) -> None:
    page = opened(f"{GROUP}&sample=training-0-0-1")
    expect(section(page, "System").locator(".tokens")).to_have_text("≈ 16 tokens")
    expect(section(page, "User").locator(".tokens")).to_contain_text("tokens")
    turn = section(page, "Turn 1")
    expect(turn.locator("header")).to_contain_text(re.compile(r"\d+ tokens.*stop: tool_calls"))
    expect(turn.locator(".call.error .kind")).to_have_text("Error")
    expect(turn.locator(".call.error")).to_contain_text("No such file")
    red = turn.locator(".call.error .kind").evaluate("node => getComputedStyle(node).color")
    assert red != turn.locator(".call:not(.error) .kind").evaluate("node => getComputedStyle(node).color")
    assert section(page, "Turn 2").locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 64


def test_c5_c6_c7_rewards_advantage_and_golden_answer(opened: Opener) -> None:
    page = opened(SAMPLE)
    expect(page.locator(".outcome .reward")).to_have_text(["Reward 0.250"])
    rewards = page.locator(".rewards .reward")
    expect(rewards).to_have_count(5)
    assert [text.split(" ")[0] for text in rewards.all_text_contents()] == [
        "Advantage",
        "format",
        "repetition",
        "entropy",
        "broken",
    ]
    expect(rewards.last).to_have_text("broken NaN")
    expect(section(page, "Golden answer")).to_contain_text("15")
    page.goto(page.url.split("#")[0] + "#/rollouts?run=training&sample=training-0-1-0")
    expect(page.locator(".ending")).to_be_visible()
    expect(section(page, "Golden answer")).to_have_count(0)


def test_c8_sections_collapse_and_are_copied(opened: Opener) -> None:
    page = opened(SAMPLE)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    inside = section(page, "User").locator(".inside")
    section(page, "User").get_by_role("button", name="User").click()
    expect(inside).to_have_count(0)
    page.get_by_role("button", name="Collapse all").click()
    expect(page.locator(".sample > .section > .inside")).to_have_count(2)  # golden answer and labels
    page.get_by_role("button", name="Expand all").click()
    expect(inside).to_be_visible()
    section(page, "User").get_by_role("button", name="Copy").click()
    expect(section(page, "User").get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "Task 0: how many lines are in all the files of /data/set-0?"


def test_d1_d2_four_toggles_each_by_itself(opened: Opener) -> None:
    page = opened(SAMPLE)
    turn = section(page, "Turn 3")
    seen = {
        "Think blocks": ".think",
        "Markdown": "table, strong",
        "LaTeX": "math",
        "Code blocks": "pre.code[data-language=python]",
    }

    def toggle(name: str) -> None:
        page.get_by_text("Render", exact=True).click()
        page.get_by_role("checkbox", name=name).click()
        page.keyboard.press("Escape")

    for name, selector in seen.items():
        expect(turn.locator(selector).first).to_be_visible()
        toggle(name)
        expect(turn.locator(selector)).to_have_count(0)
        for other, also in seen.items():
            if other != name:
                assert turn.locator(also).count() > 0, (name, other)
        toggle(name)
    toggle("Think blocks")
    page.reload()
    expect(turn).to_contain_text("<think>3 and 12 make 15.</think>")
    expect(turn.locator(".think")).to_have_count(0)


def test_d2_a_thought_without_an_end(opened: Opener, tmp_path: Path) -> None:
    RolloutStore(tmp_path / "runs" / "r").append(simple("a", "Well. <think>I never stop"))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=r&sample=a", base=base)
        thought = page.locator(".think")
        expect(thought).to_contain_text("not closed")
        expect(thought.locator(".body")).to_have_text("I never stop")
        thought.locator("summary").click()
        expect(thought.locator(".body")).to_be_hidden()


def test_d3_with_everything_off_it_is_what_is_stored(opened: Opener, tmp_path: Path) -> None:
    text = (
        "# a  b\n\n\n\t<b>x</b> &amp; $x$ \\(y\\) ```py\nz\n```"
        " <think>no</think>  \u202eabc\u202c [l](javascript:1) \U0001f600 \x07 end \n"
    )
    RolloutStore(tmp_path / "runs" / "r").append(simple("a", text))
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=r&sample=a", base=base)
        page.get_by_text("Render", exact=True).click()
        for box in page.locator(".menu[open] input").all():
            box.uncheck()
        body = section(page, "Turn 1").locator(".body")
        expect(body).to_have_count(1)
        assert body.evaluate("node => node.textContent") == text


def test_d4_raw_is_one_string_to_copy(opened: Opener) -> None:
    page = opened(SAMPLE)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Raw").click()
    text = page.locator("pre.raw").text_content() or ""
    for part in ("<|system|>", "<|user|>", 'name="bash"', "12 b.txt", "reward 0.25, finished", "[image image/png]"):
        assert part in text
    page.locator(".sample .section").get_by_role("button", name="Copy", exact=True).first.click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == text


def test_divergence_shows_where_samples_part(opened: Opener) -> None:
    page = opened(f"{GROUP}&view=divergence")
    expect(page.locator(".divergence .note")).to_have_text("The first turn is the same in all samples.")
    expect(page.locator(".branches li")).to_have_count(2)
    expect(page.locator(".differs")).to_have_text([re.compile("plot"), re.compile("plot")])
    rewards = [float((text or "").split()[-1]) for text in page.locator(".branches header .reward").all_text_contents()]
    assert rewards == sorted(rewards, reverse=True)


def test_task_history_leads_to_best_worst_and_first_solved(opened: Opener) -> None:
    page = opened(SAMPLE)
    page.get_by_role("link", name="Task history").click()
    expect(page.locator(".attempt")).to_have_count(64)
    page.get_by_role("link", name=re.compile("First solved")).click()
    expect(page.locator(".outcome .reward")).to_have_text("Reward 1.000")


def test_reasoning_logged_alone_is_shown(opened: Opener, tmp_path: Path) -> None:
    with Recorder(tmp_path / "runs" / "r") as recorder, recorder.create(id="a") as log:
        log.log(UserMessage("Hm?"))
        log.log(ReasoningItem("I see."))
        log.log(AssistantMessage("Yes."), is_finished=True)
    with viewing(tmp_path / "runs") as base:
        page = opened("#/rollouts?run=r&sample=a", base=base)
        expect(section(page, "Turn 1").locator(".think")).to_contain_text("I see.")
