"""Other libraries play our envs, each in the version that the registry has now."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from installing import kept_packages

HERE = Path(__file__).parent
# Without what they depend on: Gymnasium, NumPy and PyTorch are to be the ones that we run on.
NAMES = [
    *("minari", "jax", "jaxlib", "ml_dtypes", "opt_einsum", "scipy", "h5py", "portion"),
    *("torchrl", "tensordict<0.15,>=0.14.3", "pyvers", "hoptorch"),
]

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("library", "episodes"), [("minari", 2), ("torchrl", 1)])
def test_episodes(library: str, episodes: int, server_url: str, tmp_path: Path) -> None:
    packages = str(kept_packages("interop", *NAMES))
    environment = {**os.environ, "PYTHONPATH": packages, "MINARI_DATASETS_PATH": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(HERE / f"interop_{library}.py"), server_url]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    batches = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("[")]
    assert len(batches) == episodes
    for observations, rewards, terminated in batches:
        assert "hé" in observations[0]
        assert len(observations) == len(rewards) == 2
        assert rewards[-1] == 1.0
        assert terminated
