"""The exports' tests: `datasets` keeps its caches in a folder of the session's own, and asks no network."""

from __future__ import annotations

import os
import tempfile

_home = tempfile.TemporaryDirectory(prefix="openreward-gym-hf-")
os.environ.update(HF_HOME=_home.name, HF_HUB_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1", TOKENIZERS_PARALLELISM="false")
