"""Slow, independent versions of the equations: plain Python numbers and loops, written from the formulas.

Arguments are nested lists (a tensor's `.tolist()`); nothing of the library is imported here.
"""
