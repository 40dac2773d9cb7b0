"""Paths of modules that the tests of the pages import: `documents.py`, and the stand-in for the Hub of the export's tests."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "export")]
