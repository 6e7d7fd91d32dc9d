"""Trackers: a run's rounds passed on to other tools as they come. One file a tool; `registry.TRACKERS` names them."""
