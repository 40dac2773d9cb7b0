"""Makes the viewer's test modules findable from its browser tests, too, with the exports' small tokenizer and the examples."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "export"), str(HERE.parents[1] / "examples")]
