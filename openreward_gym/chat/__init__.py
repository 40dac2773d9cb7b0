"""Messages and calls in the providers' formats, from and to the types that flow through the package.

Every function takes dictionaries or the SDKs' own objects and imports no SDK. What a message carries that our types
have no field for (a text's citations, a call's status, a provider's own blocks) is kept beside it and given back to the
same provider.
"""

from openreward_gym.chat.action import parse_action
from openreward_gym.chat.anthropic import from_anthropic, to_anthropic
from openreward_gym.chat.completions import from_openai, to_openai
from openreward_gym.chat.gemini import from_gemini, to_gemini
from openreward_gym.chat.responses import from_openai_responses, to_openai_responses

__all__ = [
    "from_anthropic",
    "from_gemini",
    "from_openai",
    "from_openai_responses",
    "parse_action",
    "to_anthropic",
    "to_gemini",
    "to_openai",
    "to_openai_responses",
]
