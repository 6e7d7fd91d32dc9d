"""Torch modules behind small protocols: client model (encode, classify), Generator (text to image), Captioner, Scorer.

Always transformers' and diffusers' own classes: tiny and random by configuration, or pretrained (folder or hub).
"""
