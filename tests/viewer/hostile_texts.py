"""Generated texts that a careless page would change: tags, Markdown's signs, blanks, controls, broken fences, huge lines."""

from __future__ import annotations

import json
import random

# ruff: noqa: E501  (a list of texts is best read in few lines)

SIGNS = [
    "**", "*", "_", "__", "***", "~~", "`", "``", "```", "~~~", "#", "## ", "> ", "- ", "* ", "+ ", "1. ", "23) ", "|", "||", "---", "===", "***\n", "[", "]", "](", "![", "(x)",
    "\\", "\\\\", "\\*", "\\(", "\\)", "\\[", "\\]", "$", "$$", "&amp;", "&lt;b&gt;", "&#65;", "&nbsp;", "<", ">", "\\begin{align}", "\\end{align}", "\\boxed{42}", "\\frac{1}{2}", "%", "^2", "_1",
]  # fmt: skip
TAGS = [
    "<answer>", "</answer>", "<module>", "<action>hit</action>", "<think>", "</think>", "<b>", "</b>", "<br>", "<br/>", "<!-- c -->", "<script>alert(1)</script>", "<img src=x>",
    "<details>", "<a href='x'>", "<T>", "List<int>", "a < b", "b > c", "<|im_start|>", "</s>", "<![CDATA[x]]>", "<?php", "<tool_call>", "<style>p{}</style>", "<textarea>", "<p>",
]  # fmt: skip
BLANKS = [" ", "  ", "    ", "\t", "\n", "\n\n", "\n\n\n", "\n    ", "\n\t", "\r\n", "\r", "\u00a0", "\u3000", " \n", "  \n"]
ODD = [
    "\0", "\x07", "\x08", "\x0b", "\x0c", "\x1b", "\x1b[31m", "\x1b[0m", "\x1b[38;5;9m", "\x7f", "\x85", "\x9b", "\u00ad", "\u034f", "\u061c", "\u200b", "\u200c", "\u200d", "\u200e", "\u200f",
    "\u2028", "\u2029", "\u202a", "\u202b", "\u202c", "\u202d", "\u202e", "\u2060", "\u2066", "\u2067", "\u2068", "\u2069", "\ufeff", "\ufffe", "\ufffd", "\ufff9", "\U000e0041", "\U000e007f", "\ufe0f",
    "\ud800", "\udfff", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "1\ufe0f\u20e3", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "\u05e9\u05dc\u05d5\u05dd", "e\u0301\u0301\u0301", "\U000e0100", "\u3164", "\U0001f600",
]  # fmt: skip
WORDS = [
    "radius",
    "__init__",
    "x_1",
    "snake_case_name",
    "a*b*c",
    "5",
    "$5 and $6",
    "$HOME",
    "$x_1$",
    "https://a.example/b_c?d=*e*&f",
    "C:\\new\\table",
    "(a)[b](c)",
    "[the docs](https://docs.example.org)",
    "[x](javascript:1)",
    "**bold**",
    "*em*",
    "`code`",
    "`` a`b ``",
    "1.0",
    "word",
]
BLOCKS = [
    "| a | b |\n|---|:-:|\n| 1 | *2* |\n| `|` | \\| |", "a | b\n--|--\n1 | 2", "```python\ndef f():\n\treturn  1\n```", "```\nnever closed\n  x", "~~~html\n<b>x</b>\n~~~", "  ```sh\n  ls -la\n  ```", "- a\n  - b\n    - c\n\n      d",
    "1. one\n7. two\n   1) three", "> a\n>> b\n> - c", "# Title\n\n## Second ##\n", "Title\n=====\n\nOther\n-----", "$$\n\\int_0^1 x\\,dx\n$$", "\\begin{align}\na &= b \\\\\nc &= d\n\\end{align}", "\\[ x^2 \\]", "\\(y_1\\)", "$\\boxed{42}$",
    "$\\phantom{hidden}$", "$1 % comment$", "$\\frac{1$", "---\n***\n___", ". . #\n. P .\n# . G", "+---+---+\n| a | b |\n+---+---+", "    indented code\n\tand a tab", "- [ ] open\n- [x] done", "a  \nb\\\nc", "[1]: https://x.example\n\n[1]", "Term[^1]\n\n[^1]: note",
    "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n-old\n+new\n same", "Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\nValueError: a\r\n", '{"a": 1.0, "a": 12345678901234567890, "b": "x\\n  y\\u00e9\\\\n", "c": [1, [2, {"d": {}}]]}',
    '[1e5, -0.0, "\\"", null, true, [], {}]', "<html>\n  <body>\n    <p>x</p>\n  </body>\n</html>", "{not json}", '{"a": 1,}', "#!/bin/bash\nset -e\necho \"$HOME\" # c", "SELECT *\nFROM t\nWHERE a = 'b'", "#include <stdio.h>\nint main() { return 0; }",
]  # fmt: skip
KINDS = [SIGNS, TAGS, BLANKS, ODD, WORDS, WORDS, BLANKS, BLOCKS]


def text(seed: int) -> str:
    """A text, the same one for the same seed."""
    chance = random.Random(seed)
    if seed % 97 == 0:
        return chance.choice(
            [
                "x" * 30_000,
                "a b *c* " * 4_000,
                "`" * 3_000,
                "*a " * 5_000,
                "[" * 2_000,
                "$a " * 4_000,
                "\n" * 3_000,
                "- " * 900 + "x",
                "<a " * 3_000,
            ]
        )
    parts = []
    for _ in range(chance.choice([1, 3, 6, 12, 30])):
        kind = chance.choice(KINDS)
        parts.append(chance.choice(kind))
        if kind is BLOCKS or chance.random() < 0.2:
            parts.append(chance.choice(["\n", "\n\n", " "]))
    return "".join(parts)


def value(seed: int) -> object:
    """A value for an argument of a call."""
    chance = random.Random(seed)
    made = [
        text(seed),
        text(seed + 1)[:80],
        12345678901234567890,
        1.0,
        -0.5,
        1e22,
        True,
        None,
        [],
        {},
        [1, 2.0, "x\ny"],
        {"a": {"b": text(seed + 2)}},
        "",
        "true",
        "1",
        " x ",
        json.dumps({"q": [1, 2]}),
    ]
    return chance.choice(made)
