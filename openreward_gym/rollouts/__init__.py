"""The record of an episode, its store on disk, and its way to and from other systems.

record      the record itself: pydantic models, version 1; schema: the same as JSON Schema
conversion  between the record and the dataclasses of `openreward_gym.types`
chat        between OpenAI, Anthropic and Gemini messages and ours; anything a policy says as an action
store       runs on disk: `RolloutStore` (on view, index, lines, folder, writer, images, failure, damage)
merge       many runs as one, checked for duplicates and gaps
summary     what a run comes to; report: the same as text and as a page, runs compared (on plots, statistics)
recorder    `Recorder`: a log for loops that have no env (on log, turns, echo)
upload      a run to the OpenReward platform (on events, spool, platform)
sources     other systems' records: read, and where it makes sense written
"""
