"""Makes the viewer's test modules findable from its browser tests, too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
