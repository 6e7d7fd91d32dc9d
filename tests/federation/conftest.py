"""Puts the toy clients on the path, also of worker processes (they get this process's sys.path)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
