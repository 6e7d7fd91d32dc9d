"""What scores: captioner, CLIP, judge, feature networks."""
