"""The wordings of providers' and model servers' errors, each with its source and an example.

This module and `overflow_words` are data, which `failures.kind_of_failure` reads. The tests serve each example from a real
server, so a new wording needs its line here alone.
"""

from __future__ import annotations

from openreward_gym.chat.overflow_words import OVERFLOW_WORDINGS
from openreward_gym.chat.wording import GOOGLE, INVALID, Wording, anthropic_error, flat_error, gemini_error, plain_error

# The first line whose pattern is found decides. Lines that a later one would take for something else come first.
WORDINGS: tuple[Wording, ...] = (
    # --- A wrong `max_tokens` is wrong at the first request already: it says nothing of the transcript's length. ---
    # tailcallhq/forgecode#1185
    Wording(
        "refused",
        "openai azure",
        r"supports at most \d+ completion tokens",
        400,
        plain_error(
            "max_tokens is too large: 20480. This model supports at most 16384 completion tokens, whereas you provided 20480.",
            type=INVALID,
            param="max_tokens",
            code="invalid_value",
        ),
    ),
    # anthropics/claude-code#11302
    Wording(
        "refused",
        "anthropic",
        "maximum allowed number of output tokens",
        400,
        anthropic_error(
            INVALID, "max_tokens: 21333 > 4096, which is the maximum allowed number of output tokens for claude-3-opus-20240229"
        ),
    ),
    # RooCodeInc/Roo-Code#5729
    Wording(
        "refused",
        "groq",
        r"max_(?:completion_)?tokens`? must be (?:less|at (?:least|most)|a positive|> 0|<=)",
        400,
        plain_error(
            "`max_tokens` must be less than or equal to `16384`, the maximum value for `max_tokens` is less than the "
            "`context_window` for this model",
            type=INVALID,
        ),
    ),
    # huggingface/text-generation-inference: router/src/validation.rs MaxNewTokens
    Wording(
        "refused",
        "tgi together",
        r"(?<!\+ )`max_new_tokens` must be",
        422,
        {"error": "Input validation error: `max_new_tokens` must be <= 192. Given: 200", "error_type": "validation"},
    ),
    # Gitlawb/openclaude#331
    Wording(
        "refused",
        "volcengine",
        r"max_(?:completion_)?tokens`?.{0,60}(?:above maximum value|cannot be greater than)",
        400,
        plain_error(
            "The parameter `max_completion_tokens` specified in the request are not valid: integer above maximum value, "
            "expected a value <= 12288, but got 32000 instead.",
            code="InvalidParameter",
            param="max_completion_tokens",
            type="BadRequest",
        ),
    ),
    # charmbracelet/crush#946
    Wording(
        "refused",
        "bedrock",
        "maximum tokens you requested exceeds the model limit",
        400,
        {"message": "The maximum tokens you requested exceeds the model limit of 32768"},
    ),
    # help.aliyun.com/zh/model-studio/error-code (InvalidParameter)
    Wording(
        "refused",
        "dashscope",
        "range of max_tokens should be",
        400,
        plain_error("Range of max_tokens should be [1, 8192]", code="invalid_parameter_error", type=INVALID),
    ),
    # docs.cohere.com/reference/errors
    Wording(
        "refused",
        "cohere",
        "max tokens must be less than or equal to",
        400,
        {
            "message": "too many tokens: max tokens must be less than or equal to 4096, the maximum output for this model - "
            "received 8192."
        },
    ),
    # --- The account has no credit left, or a limit below this request. One throttle looks like it. ---
    # QwenLM/Qwen#2254; help.aliyun.com/zh/model-studio/error-code#token-limit: a throttle with the code of a used-up quota
    Wording(
        "rate_limited",
        "dashscope",
        "allocated quota exceeded|error-code#token-limit",
        429,
        plain_error(
            "Allocated quota exceeded, please increase your quota limit. For details, see: "
            "https://help.aliyun.com/zh/model-studio/error-code#token-limit",
            type="insufficient_quota",
            code="insufficient_quota",
        ),
    ),
    # HunorLaczko/ha-groq-cloud-api#27, vanna-ai/vanna-flask#11: one request above the account's limit never fits into it
    Wording(
        "quota",
        "groq openai",
        r"request too large for .{1,200} on tokens per",
        413,
        plain_error(
            "Request too large for model llama-3.1-8b-instant in organization org_x service tier on_demand on tokens per "
            "minute (TPM): Limit 6000, Requested 12328, please reduce your message size and try again.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
    ),
    # openai/openai-cookbook#844
    Wording(
        "quota",
        "openai azure",
        "insufficient_quota|billing_hard_limit_reached",
        429,
        plain_error(
            "You exceeded your current quota, please check your plan and billing details.",
            type="insufficient_quota",
            param=None,
            code="insufficient_quota",
        ),
    ),
    # anthropics/claude-code#66314
    Wording(
        "quota",
        "anthropic",
        "credit balance is too low",
        400,
        anthropic_error(
            INVALID,
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase "
            "credits.",
        ),
    ),
    # anthropics/claude-code#2127
    Wording(
        "quota",
        "anthropic",
        "reached your specified API usage limits",
        400,
        anthropic_error(
            INVALID, "You have reached your specified API usage limits. You will regain access on 2025-07-01 at 00:00 UTC."
        ),
    ),
    # anthropics/claude-code#29584: no wait makes this account take a request of that length.
    Wording(
        "quota",
        "anthropic",
        "extra usage is required",
        429,
        anthropic_error("rate_limit_error", "Extra usage is required for long context requests."),
    ),
    # frostime/sy-f-misc#10
    Wording(
        "quota",
        "deepseek z.ai",
        "insufficient (?:account )?(?:balance|credit)",
        402,
        plain_error("Insufficient Balance", type="unknown_error", param=None, code=INVALID),
    ),
    # Gitlawb/openclaude#1125
    Wording(
        "quota",
        "openrouter",
        "requires more credits|key limit exceeded|prompt tokens limit exceeded",
        402,
        {
            "error": {
                "message": "This request requires more credits, or fewer max_tokens. You requested up to 32000 tokens, but "
                "can only afford 27342. To increase, visit https://openrouter.ai/settings/credits and upgrade to a paid "
                "account",
                "code": 402,
                "metadata": {"provider_name": None},
            },
            "user_id": "user_3D0I",
        },
    ),
    # zai-org/GLM-5#49, continuedev/continue#11823
    Wording(
        "quota",
        "z.ai",
        r"code=1113\b|no resource package|余额不足",
        429,
        plain_error("Insufficient balance or no resource package. Please recharge.", code="1113"),
    ),
    # MoonshotAI/Kimi-K2#5
    Wording(
        "quota",
        "moonshot",
        "exceeded_current_quota",
        403,
        plain_error(
            "Your account xx> is not active, organization <xx> exceeded current quota, please check your plan and billing "
            "details",
            type="exceeded_current_quota_error",
        ),
    ),
    # Wei-Shaw/sub2api#4069; continuedev/continue#10373 (429), #12670 (403)
    Wording(
        "quota",
        "xai",
        r"(?:used all available|run out of|doesn't have any) credits|reached (?:its|the) monthly spending limit",
        403,
        {
            "code": "permission-denied",
            "error": "You have run out of credits or need a Grok subscription. Add credits at https://grok.com/?_s=usage or "
            "upgrade at https://grok.com/supergrok.",
        },
    ),
    # pollinations/pollinations#12136
    Wording(
        "quota",
        "fireworks",
        "reaching the monthly spending limit|failure to pay past invoices",
        412,
        {
            "error": {
                "message": "Account x is suspended, possibly due to reaching the monthly spending limit or failure to pay past "
                "invoices. Please go to https://fireworks.ai/account/billing for more information.",
                "param": None,
                "code": "PRECONDITION_FAILED",
                "type": "error",
            },
            "request_id": "11650e2f",
        },
    ),
    # help.aliyun.com/zh/model-studio/error-code#overdue-payment
    Wording(
        "quota",
        "dashscope",
        "arrearage|overdue-payment",
        400,
        plain_error(
            "Access denied, please make sure your account is in good standing. For details, see: "
            "https://help.aliyun.com/zh/model-studio/error-code#overdue-payment",
            type="Arrearage",
            code="Arrearage",
            param=None,
        ),
    ),
    # --- Rate limits. Those that name tokens are no full windows. ---
    # continuedev/continue#10920; OpenAI's Responses API gives the code with status 200 (openai-python: response_error.py)
    Wording(
        "rate_limited",
        "groq openai responses",
        "rate_limit_exceeded|rate limit (?:reached|exceeded)|too many requests",
        429,
        plain_error(
            "Rate limit reached for model `llama-3.3-70b-versatile` in organization `org_x` service tier `on_demand` on "
            "tokens per day (TPD): Limit 100000, Used 97050, Requested 3619. Please try again in 9m38.016s.",
            type="tokens",
            code="rate_limit_exceeded",
        ),
    ),
    # browserbase/mcp-server-browserbase#129: Google writes OpenAI's words for a used-up quota where a minute's limit is reached.
    Wording(
        "rate_limited",
        "gemini",
        "RESOURCE_EXHAUSTED",
        429,
        gemini_error(
            429,
            "RESOURCE_EXHAUSTED",
            "You exceeded your current quota, please check your plan and billing details.\nPlease retry in 47.434392449s.",
            {
                "@type": f"{GOOGLE}QuotaFailure",
                "violations": [{"quotaId": "GenerateContentPaidTierInputTokensPerModelPerMinute", "quotaValue": "4000000"}],
            },
            {"@type": f"{GOOGLE}RetryInfo", "retryDelay": "47s"},
        ),
    ),
    # HeyPuter/puter#1977: a gateway that drops the code
    Wording(
        "quota",
        "openai",
        r"exceeded your current quota(?![\s\S]*(?:retry in|ai\.google\.dev))",
        429,
        {
            "success": False,
            "error": "429 You exceeded your current quota, please check your plan and billing details. For more information on "
            "this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
        },
    ),
    # anthropics/claude-code#71670
    Wording(
        "rate_limited",
        "anthropic",
        "rate_limit_error",
        429,
        anthropic_error("rate_limit_error", "This request would exceed your account's rate limit. Please try again later."),
    ),
    # litellm: exception_mapping_utils.py (ThrottlingException); "Too many tokens" is a rate here.
    Wording(
        "rate_limited",
        "bedrock",
        "ThrottlingException|too many tokens, please wait",
        429,
        {"__type": "ThrottlingException", "message": "Too many tokens, please wait before trying again."},
    ),
    # continuedev/continue#9800
    Wording(
        "rate_limited",
        "cerebras",
        "token_quota_exceeded|(?:tokens|requests) per (?:minute|hour|day) limit exceeded",
        429,
        {
            "message": "Tokens per minute limit exceeded - too many tokens processed.",
            "type": "too_many_tokens_error",
            "param": "quota",
            "code": "token_quota_exceeded",
        },
    ),
    # --- A filter withheld the prompt or the answer. ---
    # compl-ai/compl-ai#20, openai/openai-python#331; the codes of OpenAI: inspect_ai's openai provider
    Wording(
        "content_filter",
        "azure openai responses",
        r"content_?filter|content_policy|policy_violation|ResponsibleAIPolicyViolation|content management policy"
        r"|(?:bio|cyber)_policy|moderation_blocked",
        400,
        plain_error(
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify "
            "your prompt and retry. To learn more about our content filtering policies please read our documentation: "
            "https://go.microsoft.com/fwlink/?linkid=2198766",
            type=None,
            param="prompt",
            code="content_filter",
            status=400,
            innererror={
                "code": "ResponsibleAIPolicyViolation",
                "content_filter_result": {
                    "hate": {"filtered": False, "severity": "safe"},
                    "jailbreak": {"filtered": False, "detected": False},
                    "violence": {"filtered": True, "severity": "medium"},
                },
            },
        ),
    ),
    # BeehiveInnovations/pal-mcp-server#178
    Wording(
        "content_filter",
        "openai responses azure",
        "flagged as potentially violating|limited access to this content for safety",
        400,
        plain_error(
            "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with a "
            "different prompt: https://platform.openai.com/docs/guides/reasoning#advice-on-prompting",
            type=INVALID,
            param=None,
            code="invalid_prompt",
        ),
    ),
    # litellm: exception_mapping_utils.py (ContentPolicyViolationError)
    Wording(
        "content_filter",
        "openai",
        r"rejected (?:as a result of|by) (?:our|the) safety system",
        400,
        plain_error("Your request was rejected as a result of our safety system.", type=INVALID, code=None),
    ),
    # inspect_ai: model/_providers/anthropic.py handle_bad_request
    Wording(
        "content_filter",
        "anthropic",
        "blocked by (?:our |the )?content filter",
        400,
        anthropic_error(INVALID, "Output blocked by content filtering policy"),
    ),
    # camel-ai/owl#432, QwenLM/Qwen#938 (DataInspectionFailed)
    Wording(
        "content_filter",
        "dashscope",
        r"data_?inspection_?failed|may contain inappropriate content",
        400,
        {
            "error": {
                "code": "data_inspection_failed",
                "param": None,
                "message": "Input data may contain inappropriate content.",
                "type": "data_inspection_failed",
            },
            "id": "chatcmpl-deab386b",
            "request_id": "deab386b",
        },
    ),
    # docs.z.ai/api-reference/api-code
    Wording(
        "content_filter",
        "z.ai",
        r"code=1301\b|unsafe or sensitive content",
        400,
        plain_error(
            "System detected potentially unsafe or sensitive content in input or generation. Please avoid using prompts that "
            "may generate sensitive content. Thank you for your cooperation.",
            code="1301",
        ),
    ),
    # UKGovernmentBEIS/inspect_ai#2267, Wei-Shaw/sub2api#5359: the status is that of a bad key.
    Wording(
        "content_filter",
        "xai",
        "violates usage guidelines|SAFETY_CHECK_TYPE",
        403,
        {
            "code": "The caller does not have permission to execute the specified operation",
            "error": "Content violates usage guidelines. Team: x, API key ID: x, Model: grok-4-0709, Failed check: "
            "SAFETY_CHECK_TYPE_BIO",
        },
    ),
    # api-docs.deepseek.com; lobehub/lobehub: error codes of DeepSeek
    Wording(
        "content_filter",
        "deepseek",
        "content exists risk",
        400,
        plain_error("Content Exists Risk", type=INVALID, param=None, code=INVALID),
    ),
    # platform.moonshot.ai/docs/api/errors
    Wording(
        "content_filter",
        "moonshot",
        "considered high risk",
        400,
        plain_error("The request was rejected because it was considered high risk", type="content_filter"),
    ),
    # openrouter.ai/docs/api/errors: 403 with the metadata of a moderation
    Wording(
        "content_filter",
        "openrouter",
        "requires moderation|input was flagged|flagged_input",
        403,
        {
            "error": {
                "code": 403,
                "message": "Your chosen model requires moderation and your input was flagged",
                "metadata": {
                    "reasons": ["violence"],
                    "flagged_input": "...",
                    "provider_name": "OpenAI",
                    "model_slug": "openai/gpt-4o",
                },
            }
        },
    ),
    *OVERFLOW_WORDINGS,
    # --- The key. Some send 400. ---
    # cequence-io/openai-scala-client#109
    Wording(
        "bad_key",
        "gemini",
        "API_KEY_INVALID|API key (?:not valid|not found|expired)",
        400,
        gemini_error(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            {"@type": f"{GOOGLE}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"},
        ),
    ),
    # openai/codex#1352, continuedev/continue#10778
    Wording(
        "bad_key",
        "xai openai",
        "incorrect API key|invalid_api_key|invalid API key",
        400,
        {
            "code": "Client specified an invalid argument",
            "error": "Incorrect API key provided: na***ys. You can obtain an API key from https://console.x.ai.",
        },
    ),
    # docs.claude.com/en/api/errors
    Wording("bad_key", "anthropic", "authentication_error", 401, anthropic_error("authentication_error", "invalid x-api-key")),
    # --- The model. ---
    # vllm-project/vllm#3485, QwenLM/Qwen-Agent#110
    Wording(
        "model_not_found",
        "vllm openai groq",
        r"model_not_found|the model `.{1,200}` does not exist",
        404,
        flat_error("The model `Qwen1.5-14B-Chat-GPTQ-Int8` does not exist.", "NotFoundError", 404),
    ),
    # chatboxai/chatbox#646
    Wording(
        "model_not_found",
        "azure",
        "DeploymentNotFound",
        404,
        plain_error(
            "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, "
            "please wait a moment and try again.",
            code="DeploymentNotFound",
        ),
    ),
    # anthropics/claude-code#5349
    Wording("model_not_found", "anthropic", "not_found_error", 404, anthropic_error("not_found_error", "model: sonnet4")),
    # swuecho/chat#597
    Wording(
        "model_not_found",
        "gemini",
        "is not found for API version",
        404,
        gemini_error(
            404,
            "NOT_FOUND",
            "models/gemini-2.0-pro is not found for API version v1beta, or is not supported for generateContent. Call "
            "ListModels to see the list of available models and their supported methods.",
        ),
    ),
    # ollama/ollama: server/routes.go
    Wording(
        "model_not_found",
        "ollama",
        r"model '.{1,200}' not found",
        404,
        plain_error("model 'm' not found", type="not_found_error"),
    ),
    # --- It passes. ---
    # groq/groq-typescript#28: the model wrote a call that Groq could not read; another sample may be right.
    Wording(
        "unavailable",
        "groq",
        "tool_use_failed",
        400,
        plain_error(
            "Failed to call a function. Please adjust your prompt. See 'failed_generation' for more details.",
            type=INVALID,
            code="tool_use_failed",
            failed_generation='web_search{"query": "SPFMV"}</function>',
        ),
    ),
    # anthropics/claude-code#5184
    Wording("unavailable", "anthropic", "overloaded_error", 529, anthropic_error("overloaded_error", "Overloaded")),
    # google-gemini/gemini-cli#5191
    Wording(
        "unavailable",
        "gemini",
        "model is overloaded",
        503,
        gemini_error(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    ),
    # console.groq.com/docs/flex-processing
    Wording(
        "unavailable",
        "groq",
        "capacity_exceeded|capacity exceeded",
        498,
        plain_error("Flex tier capacity exceeded.", type="capacity_exceeded", code="capacity_exceeded"),
    ),
    # huggingface/text-generation-inference: router/src/server.rs (GenerationError)
    Wording(
        "unavailable",
        "tgi",
        "request failed during generation|incomplete generation",
        424,
        {"error": "Request failed during generation: Server error: CUDA out of memory", "error_type": "generation"},
    ),
    # openai-python: types/responses/response_error.py (status 200)
    Wording("unavailable", "responses openai", "server_error", 500, plain_error("The server had an error.", type="server_error")),
)
"""The wordings of errors. A line that names several servers has the example of the first."""
