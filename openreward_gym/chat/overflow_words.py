"""The wordings of providers and model servers for a transcript that does not fit into the model's context window."""

from __future__ import annotations

from openreward_gym.chat.wording import INVALID, Wording, anthropic_error, flat_error, gemini_error, plain_error

OVERFLOW_WORDINGS: tuple[Wording, ...] = (
    # danny-avila/LibreChat#934; vllm-project/vllm#20409 (vLLM writes the same without the code)
    Wording(
        "context_overflow",
        "openai azure vllm deepseek",
        r"context_(?:length|window)_exceeded|maximum context (?:length|window|size)",
        400,
        plain_error(
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 8193 tokens. Please "
            "reduce the length of the messages.",
            type=INVALID,
            param="messages",
            code="context_length_exceeded",
        ),
    ),
    # openai/openai-python: the Responses API, as maximhq/bifrost#4413 logged it
    Wording(
        "context_overflow",
        "responses openai",
        r"exceed(?:s|ed|ing)? (?:[\w'-]+ ){0,3}context\b",
        400,
        plain_error(
            "Your input exceeds the context window of this model. Please adjust your input and try again.",
            type=INVALID,
            param="input",
            code="context_length_exceeded",
        ),
    ),
    # BerriAI/litellm#15968
    Wording(
        "context_overflow",
        "azure openai",
        "input tokens exceed",
        400,
        plain_error(
            "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 509178 tokens. Please "
            "reduce the length of the messages.",
            type=INVALID,
            param="messages",
            code="context_length_exceeded",
        ),
    ),
    # OpenHands/OpenHands#5350; anthropics on Bedrock: aaif-goose/goose#7504
    Wording(
        "context_overflow",
        "anthropic bedrock",
        r"(?:prompt|input|conversation|transcript) (?:is |was )?too long",
        400,
        anthropic_error(INVALID, "prompt is too long: 209303 tokens > 200000 maximum"),
    ),
    # continuedev/continue#8454
    Wording(
        "context_overflow",
        "anthropic",
        "exceeds? context (?:limit|window|length)",
        400,
        anthropic_error(
            INVALID,
            "input length and `max_tokens` exceed context limit: 143653 + 64000 > 200000, decrease input length or "
            "`max_tokens` and try again",
        ),
    ),
    # docs.claude.com/en/api/errors: more bytes than the server takes
    Wording(
        "context_overflow",
        "anthropic",
        "request_too_large|request entity too large|payload too large",
        413,
        anthropic_error("request_too_large", "Request exceeds the maximum size"),
    ),
    # google-gemini/gemini-cli#4118, #27197
    Wording(
        "context_overflow",
        "gemini",
        r"exceeds the maximum number of tokens|input token count.{0,80}exceeds",
        400,
        gemini_error(
            400, "INVALID_ARGUMENT", "The input token count (132478) exceeds the maximum number of tokens allowed (131072)."
        ),
    ),
    # google-gemini/gemini-cli#6678: a list
    Wording(
        "context_overflow",
        "gemini",
        "exceeds the maximum number of tokens",
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "The input token count (1200293) exceeds the maximum number of tokens allowed (1048576).",
                    "errors": [{"message": "The input token count exceeds", "domain": "global", "reason": "badRequest"}],
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
    ),
    # cline/cline#3120; inspect_ai's grok provider (input_too_large)
    Wording(
        "context_overflow",
        "xai",
        r"maximum prompt length|input_too_large",
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "This model's maximum prompt length is 131072 but the request contains 136973 tokens.",
        },
    ),
    # OpenHands/OpenHands#1902
    Wording(
        "context_overflow",
        "groq cerebras vllm",
        r"reduce the length of (?:the |your )?(?:messages|input|prompt)",
        400,
        plain_error(
            "Please reduce the length of the messages or completion.",
            type=INVALID,
            param="messages",
            code="context_length_exceeded",
        ),
    ),
    # cline/cline#5140
    Wording(
        "context_overflow",
        "cerebras",
        r"current length is \d+ while limit is \d+",
        400,
        plain_error(
            "Please reduce the length of the messages or completion. Current length is 42328 while limit is 40000",
            type=INVALID,
            code="context_length_exceeded",
        ),
    ),
    # cline/cline#13194: the words of the server behind OpenRouter are inside
    Wording(
        "context_overflow",
        "openrouter",
        "maximum context length",
        400,
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {
                    "raw": '{"error":{"message":"This model\'s maximum context length is 262144 tokens. However, your '
                    'messages resulted in 262897 tokens. Please reduce the length of the messages.","type":"Bad '
                    'Request","code":400}}',
                    "provider_name": "Nvidia",
                    "is_byok": False,
                },
            },
            "user_id": "user_x",
        },
    ),
    # vllm-project/vllm: vllm/entrypoints/openai (VLLMValidationError)
    Wording(
        "context_overflow",
        "vllm nvidia",
        r"context length is only",
        400,
        plain_error(
            "You passed 10243 input tokens and requested 6142 output tokens. However, the model's context length is only "
            "16384 tokens, resulting in a maximum input length of 10242 tokens. Please reduce the length of the input "
            "prompt. (parameter=input_tokens, value=10243)",
            type="BadRequestError",
            param="input_tokens",
            code=400,
        ),
    ),
    # OpenBMB/MiniCPM-V#1048; with status 500 by Xinference: langchain-ai/deepagents#468
    Wording(
        "context_overflow",
        "vllm",
        r"longer than (?:the )?max(?:imum)?[ _]model[ _]len",
        400,
        plain_error(
            "The decoder prompt (length 2136) is longer than the maximum model length of 2048.", type="BadRequestError", code=400
        ),
    ),
    # langchain-ai/deepagents#468
    Wording(
        "context_overflow",
        "xinference",
        "longer than the maximum model length",
        500,
        {
            "detail": "[address=0.0.0.0:43769, pid=1065] The decoder prompt (length 66501) is longer than the maximum model "
            "length of 65536. Make sure that `max_model_len` is no smaller than the number of text tokens."
        },
    ),
    # BerriAI/litellm#10793
    Wording(
        "context_overflow",
        "sglang together",
        r"(?:longer|larger|greater) than the (?:model's |max(?:imum)? )?context (?:length|size|window)",
        400,
        flat_error("The input (516368 tokens) is longer than the model's context length (262144 tokens)."),
    ),
    # sgl-project/sglang: python/sglang/srt/managers/tokenizer_manager.py
    Wording(
        "context_overflow",
        "sglang",
        "requested token count exceeds",
        400,
        flat_error(
            "Requested token count exceeds the model's maximum context length of 32768 tokens. You requested a total of "
            "70000 tokens: 60000 tokens from the input messages and 10000 tokens for the completion."
        ),
    ),
    # ggml-org/llama.cpp#19774
    Wording(
        "context_overflow",
        "llama.cpp",
        r"exceed_context_size|exceeds (?:the )?available context",
        400,
        {
            "error": {
                "code": 400,
                "message": "request (4390 tokens) exceeds the available context size (4096 tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 4390,
                "n_ctx": 4096,
            }
        },
    ),
    # ggml-org/llama.cpp#19774: the window ran full while the model wrote
    Wording(
        "context_overflow",
        "llama.cpp lmstudio",
        r"context (?:size|length|window) (?:has been |was |is )?exceed",
        500,
        {"error": {"code": 500, "message": "Context size has been exceeded.", "type": "server_error"}},
    ),
    # fedora-copr/logdetective-website#193
    Wording(
        "context_overflow",
        "llama-cpp-python",
        r"tokens? \(\d+\) exceeds? ",
        400,
        plain_error("Requested tokens (2285) exceed context window of 2048", type=INVALID, code="context_length_exceeded"),
    ),
    # antirez/ds4#150
    Wording(
        "context_overflow",
        "ds4",
        r"context_exceeded|configured context size is",
        400,
        {"error": {"message": "Prompt tokens (9000) exceeds context size (8192)", "type": "context_exceeded", "n_ctx": 8192}},
    ),
    # ollama/ollama: llm/llama_server.go
    Wording(
        "context_overflow",
        "ollama",
        r"exceeds? (?:the |max(?:imum)? )?(?:model's )?(?:maximum )?context length|longer than the context length",
        400,
        plain_error("the input length exceeds the context length", type=INVALID, param=None, code=None),
    ),
    # ollama/ollama: llm/llama_server.go (the prompt of a chat)
    Wording(
        "context_overflow",
        "ollama",
        "longer than the context length",
        400,
        plain_error(
            "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
            "context length in settings, or use a model with a longer context length",
            type=INVALID,
        ),
    ),
    # Ollama's cloud: earendil-works/pi, packages/ai/test/overflow.test.ts
    Wording(
        "context_overflow",
        "ollama",
        "prompt too long; exceeded",
        400,
        plain_error("prompt too long; exceeded max context length by 100918 tokens", type=INVALID),
    ),
    # huggingface/text-generation-inference: router/src/validation.rs MaxTotalTokens; Together: bytedance/UI-TARS-desktop#626
    Wording(
        "context_overflow",
        "tgi together",
        r"inputs[`']? tokens (?:\+|and) [`']?max_new_tokens[`']? must",
        422,
        {
            "error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 65537. Given: 79993 `inputs` "
            "tokens and 1024 `max_new_tokens`",
            "error_type": "validation",
        },
    ),
    # huggingface/text-generation-inference: router/src/validation.rs InputLength (meta-llama/llama#1103)
    Wording(
        "context_overflow",
        "tgi",
        r"inputs`? must have less than \d+ tokens",
        422,
        {"error": "Input validation error: `inputs` must have less than 4096 tokens. Given: 4545", "error_type": "validation"},
    ),
    # NVIDIA/TensorRT-LLM: tensorrt_llm/llmapi/llm.py _check_arguments (#9277)
    Wording(
        "context_overflow",
        "tensorrt-llm",
        r"prompt length.{0,80}should not exceed max",
        400,
        flat_error("The sum of prompt length (50857.0), query length (0) should not exceed max_num_tokens (32768)"),
    ),
    # triton-inference-server/tensorrtllm_backend#141, #565
    Wording(
        "context_overflow",
        "tensorrt-llm",
        r"exceeds maximum (?:input|sequence) length",
        400,
        flat_error("Cannot process new request: Prompt length (5056) exceeds maximum sequence length (2048)"),
    ),
    # Gitlawb/openclaude#353
    Wording(
        "context_overflow",
        "lmstudio",
        r"tokens to keep from the initial prompt",
        400,
        {
            "error": "The number of tokens to keep from the initial prompt is greater than the context length (n_keep: "
            "13055>= n_ctx: 4096). Try to load the model with a larger context length, or provide a shorter input."
        },
    ),
    # lmstudio-ai/lmstudio-bug-tracker#546
    Wording(
        "context_overflow",
        "lmstudio",
        r"when (?:the )?context (?:the )?overflows|context length of only",
        400,
        {
            "error": "Trying to keep the first 111490 tokens when context the overflows. However, the model is loaded with "
            "context length of only 32768 tokens, which is not enough. Try to load the model with a larger context length, "
            "or provide a shorter input."
        },
    ),
    # fw-ai/cookbook#134
    Wording(
        "context_overflow",
        "fireworks",
        r"the prompt is too long: \d+",
        400,
        {
            "error": {
                "object": "error",
                "type": INVALID,
                "code": INVALID,
                "message": "The prompt is too long: 40177, model maximum context length: 32767",
            }
        },
    ),
    # badlogic/pi-mono: packages/ai/src/utils/overflow.ts; BerriAI/litellm#21647
    Wording(
        "context_overflow",
        "mistral",
        r"too large for model with \d+",
        400,
        {
            "object": "error",
            "message": "Prompt contains 300000 tokens, too large for model with 131072 maximum context length",
            "type": INVALID,
            "param": None,
            "code": None,
        },
    ),
    # zeroclaw-labs/zeroclaw#4124
    Wording(
        "context_overflow", "z.ai", r"code=1261\b|prompt exceeds max", 400, plain_error("Prompt exceeds max length", code="1261")
    ),
    # agentscope-ai/QwenPaw#6255, QwenLM/qwen-code#98
    Wording(
        "context_overflow",
        "dashscope",
        "range of input length should be",
        400,
        {
            "error": {
                "code": "invalid_parameter_error",
                "message": "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 983616]",
                "param": None,
                "type": INVALID,
            },
            "request_id": "81a373d6",
        },
    ),
    # aws-samples/assessment-generator#2, aws-samples/bedrock-chat#95
    Wording(
        "context_overflow",
        "bedrock",
        r"too long for requested model|too many input tokens|expected maxlength: \d+, actual",
        400,
        {"message": "Input is too long for requested model."},
    ),
    # litellm: exception_mapping_utils.py (_BEDROCK_MANTLE_CONTEXT_WINDOW_PATTERN)
    Wording(
        "context_overflow",
        "bedrock",
        r"prompt tokens \(\d+\) exceed",
        400,
        plain_error("prompt tokens (131100) exceed model maximum (131072)", type=INVALID, code="validation_error"),
    ),
    # MoonshotAI/kimi-cli#2011
    Wording(
        "context_overflow",
        "moonshot",
        r"exceeded model token limit",
        400,
        plain_error("Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)", type=INVALID),
    ),
    # agentscope-ai/QwenPaw#1873
    Wording(
        "context_overflow",
        "minimax",
        "context window exceeds limit",
        400,
        anthropic_error(INVALID, "invalid params, context window exceeds limit (2013)"),
    ),
    # langgenius/dify#32221; openrouter's Poolside: anomalyco/opencode, packages/llm/test/provider-error.test.ts
    Wording(
        "context_overflow",
        "volcengine openrouter",
        r"(?:input|prompt) length \(?\d+\)? exceeds|tokens in request more than max tokens allowed",
        400,
        plain_error(
            "Input length 203743 exceeds the maximum length 202752", code="InvalidParameter", param="", type="BadRequest"
        ),
    ),
    # badlogic/pi-mono: packages/ai/src/utils/overflow.ts (GitHub Copilot)
    Wording(
        "context_overflow",
        "copilot",
        r"token count of [\d,]+ exceeds|max_prompt_tokens_exceeded",
        400,
        plain_error("prompt token count of 145000 exceeds the limit of 128000", code="model_max_prompt_tokens_exceeded"),
    ),
    # jaylfc/taOS#1738
    Wording(
        "context_overflow",
        "rkllm",
        r"context window is \d+",
        400,
        {"error": "Prompt is 11543 tokens but the model context window is 4096 tokens."},
    ),
    # BerriAI/litellm#21647
    Wording(
        "context_overflow",
        "perplexity",
        "total length of all messages is too long",
        400,
        plain_error("The total length of all messages is too long.", type="bad_request", code=400),
    ),
    # docs.cohere.com/reference/errors
    Wording(
        "context_overflow",
        "cohere",
        "total number of tokens in the prompt cannot exceed|too many tokens: size limit",
        400,
        {
            "message": "too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 4292. Try using a "
            "shorter prompt, or enabling prompt truncating. See https://docs.cohere.com/reference/generate for more details."
        },
    ),
    # lmstudio-ai/lmstudio-bug-tracker#1024
    Wording(
        "context_overflow",
        "lmstudio",
        r"reached context length of \d+ tokens",
        400,
        {
            "error": "Reached context length of 32000 tokens with model (arch: gpt-oss) that does not currently support "
            "mid-generation context overflow. Try reloading with a larger context length or shortening the prompt/chat."
        },
    ),
)
"""A line that names several servers has the example of the first."""
