"""Environments with NeMo Gym: its version 0.4 and its newest, each with a part of what it requires."""

from __future__ import annotations

from pathlib import Path

from installing import kept_environment_of

VERSIONS = {"nemo-gym-0.4": ("3.12", "nemo-gym==0.4.0"), "nemo-gym-newest": ("3.13", "nemo-gym")}
# What the modules of its types and of its servers import.
_NEEDS = (
    "openai",
    "anthropic",
    "pydantic",
    "fastapi",
    "mcp",
    "anyio",
    "itsdangerous",
    "uvicorn",
    "httptools",
    "hydra-core",
    "omegaconf",
    "aiohttp",
    "yappi",
    "ray",
    "orjson",
    "psutil",
    "devtools",
    "rich",
    "tqdm",
    "scipy",
    "wandb",
    "gprof2dot",
    "pydot",
    "jinja2",
    "packaging",
)


def nemo_gym_python(name: str) -> Path:
    """Return the interpreter of an environment of `VERSIONS`."""
    # This package itself needs httptools, which version 0.4 does not ask for.
    return kept_environment_of(name, *VERSIONS[name], _NEEDS, "requests", "pandas", "httptools")
