"""The words of providers and model servers for the end of a turn, in lower case, each with its source."""

from __future__ import annotations

from collections.abc import Mapping

from openreward_gym.types import Ended

_CHAT: Mapping[str, Ended] = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}
FINISH_REASONS: Mapping[str, Mapping[str, Ended]] = {
    # openai-python: types/chat/chat_completion.py
    "openai": {**_CHAT, "function_call": "tool_calls", "content_filter": "content_filter"},
    # openai-python: types/responses/response_status.py and response.py (incomplete_details)
    "responses": {
        "completed": "stop",
        "failed": "error",
        "cancelled": "error",
        "max_output_tokens": "length",
        "content_filter": "content_filter",
    },
    # Azure's api-version 2024-10-21 has the words of OpenAI: learn.microsoft.com/azure/ai-services/openai/reference
    "azure": {**_CHAT, "content_filter": "content_filter"},
    # anthropic-sdk-python: types/beta/beta_stop_reason.py; docs.claude.com/en/api/handling-stop-reasons
    "anthropic": {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "tool_use": "tool_calls",
        "max_tokens": "length",
        "model_context_window_exceeded": "context_overflow",
        "refusal": "refusal",
        "pause_turn": "pause",
        "compaction": "pause",
    },
    # python-genai: types.py FinishReason and BlockedReason
    "gemini": {
        "stop": "stop",
        "max_tokens": "length",
        "safety": "content_filter",
        "recitation": "content_filter",
        "language": "content_filter",
        "blocklist": "content_filter",
        "prohibited_content": "content_filter",
        "spii": "content_filter",
        "model_armor": "content_filter",
        "jailbreak": "content_filter",
        "image_safety": "content_filter",
        "image_prohibited_content": "content_filter",
        "image_recitation": "content_filter",
        "malformed_function_call": "malformed",
        "malformed_response": "malformed",
        "unexpected_tool_call": "malformed",
        "too_many_tool_calls": "malformed",
        "missing_thought_signature": "malformed",
        # "Token generation stopped for unknown reason": what there is of the answer is a part of it.
        "other": "error",
    },
    # openrouter.ai/docs/api-reference/overview (normalised finish reasons)
    "openrouter": {**_CHAT, "content_filter": "content_filter", "error": "error"},
    # vllm-project/vllm: vllm/v1/engine/__init__.py FinishReason
    "vllm": {**_CHAT, "abort": "error", "error": "error"},
    # sgl-project/sglang: python/sglang/srt/entrypoints/openai/protocol.py
    "sglang": {**_CHAT, "function_call": "tool_calls", "content_filter": "content_filter", "abort": "error"},
    # ggml-org/llama.cpp: tools/server (to_json_oaicompat_chat)
    "llama.cpp": {**_CHAT},
    # ollama/ollama: openai/openai.go, anthropic/anthropic.go mapStopReason
    "ollama": {**_CHAT, "end_turn": "stop", "max_tokens": "length"},
    # huggingface/text-generation-inference: router/src/lib.rs FinishReason
    "tgi": {"length": "length", "eos_token": "stop", "stop_sequence": "stop", "stop": "stop", "tool_calls": "tool_calls"},
    # NVIDIA/TensorRT-LLM: tensorrt_llm/executor/result.py CompletionOutput
    "tensorrt-llm": {**_CHAT, "timeout": "error", "cancelled": "error"},
    # lmstudio.ai/docs/developer/openai-compat
    "lmstudio": {**_CHAT},
    # togethercomputer/together-python: types/chat_completions.py FinishReason
    "together": {"stop": "stop", "eos": "stop", "length": "length", "tool_calls": "tool_calls", "error": "error"},
    # docs.fireworks.ai/api-reference/post-chatcompletions
    "fireworks": {**_CHAT, "function_call": "tool_calls"},
    # groq/groq-python: types/chat/chat_completion.py
    "groq": {**_CHAT, "function_call": "tool_calls"},
    # mistralai/client-python: models ChatCompletionChoice.finish_reason
    "mistral": {
        "stop": "stop",
        "length": "length",
        "model_length": "context_overflow",
        "error": "error",
        "tool_calls": "tool_calls",
    },
    # api-docs.deepseek.com/api/create-chat-completion
    "deepseek": {**_CHAT, "content_filter": "content_filter", "insufficient_system_resource": "error"},
    # docs.x.ai/docs/api-reference (chat completions)
    "xai": {"stop": "stop", "end_turn": "stop", "length": "length", "tool_calls": "tool_calls"},
    # docs.z.ai/api-reference/llm/chat-completion
    "z.ai": {
        **_CHAT,
        "sensitive": "content_filter",
        "network_error": "error",
        "model_context_window_exceeded": "context_overflow",
    },
    # help.aliyun.com/zh/model-studio/use-qwen-by-calling-api
    "dashscope": {**_CHAT},
    # docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_MessageStopEvent.html
    "bedrock": {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "tool_use": "tool_calls",
        "max_tokens": "length",
        "guardrail_intervened": "content_filter",
        "content_filtered": "content_filter",
        "malformed_model_output": "malformed",
        "malformed_tool_use": "malformed",
        "model_context_window_exceeded": "context_overflow",
    },
    # huggingface/transformers: cli/serving/chat_completion.py
    "transformers": {**_CHAT},
}
"""Our word for each word of a provider, by provider."""

ENDINGS: Mapping[str, Ended] = {word: ended for words in FINISH_REASONS.values() for word, ended in words.items()}
"""Our word for each word of any provider: no two mean different things by one."""
