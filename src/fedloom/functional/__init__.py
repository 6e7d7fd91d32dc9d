"""The papers' equations as pure functions on tensors, one subject a file. Knows no method, model or engine."""
