"""The fair table: rows x columns x seeds of runs, each done once, and what they say together.

fedloom.compare(methods=["standalone", "fedmmkt"], seeds=[0, 1, 2])   -> Comparison
fedloom.compare(preset="smoke")                                       -> Comparison
"""

from __future__ import annotations

from fedloom.comparison.results import Comparison, load_comparison
from fedloom.comparison.session import compare

__all__ = ["Comparison", "compare", "load_comparison"]
