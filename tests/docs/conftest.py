"""The pages' tests share `documents.py`, and the stand-in for the Hub with those of the export."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "export")]
