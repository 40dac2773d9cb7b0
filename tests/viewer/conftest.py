"""Makes the viewer's test modules findable from its browser tests, too, and the exports' small tokenizer."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "export"))
