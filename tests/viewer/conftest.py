"""Import paths of the viewer's tests and browser tests: their helpers, the small tokenizer of the export tests, the examples."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "export"), str(HERE.parents[1] / "examples")]
