"""Messages and calls in the providers' formats, read into the types that flow through the package and written back.

There is a `Dialect` per format, and a pair of functions for each of the four providers. All take dictionaries or SDK
objects, and none imports an SDK.
"""

from openreward_gym.chat.action import parse_action
from openreward_gym.chat.anthropic import AnthropicDialect, from_anthropic, to_anthropic
from openreward_gym.chat.dialect import Dialect
from openreward_gym.chat.gemini import GeminiDialect, from_gemini, to_gemini
from openreward_gym.chat.openai import OpenAIChatDialect, ReasoningField, from_openai, to_openai
from openreward_gym.chat.raw_text import RawTextDialect, from_raw_text
from openreward_gym.chat.responses import OpenAIResponsesDialect, from_openai_responses, to_openai_responses

__all__ = [
    "AnthropicDialect",
    "Dialect",
    "GeminiDialect",
    "OpenAIChatDialect",
    "OpenAIResponsesDialect",
    "RawTextDialect",
    "ReasoningField",
    "from_anthropic",
    "from_gemini",
    "from_openai",
    "from_openai_responses",
    "from_raw_text",
    "parse_action",
    "to_anthropic",
    "to_gemini",
    "to_openai",
    "to_openai_responses",
]
