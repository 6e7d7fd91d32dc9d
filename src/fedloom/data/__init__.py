"""Data sets, partitioners and corruption. Knows no method and no engine."""
