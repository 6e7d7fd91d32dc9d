"""Scores as pure functions of arrays: accuracy, CLIP score, Frechet distance, inception score, labels, bytes."""
