"""GLIDE (Nichol et al. 2021, arXiv 2112.10741): text to 64 px pictures, and from there to 256 px, in pixel space.

tokenizer    text to ids, from a merges file of the release
networks     text encoder and U-Net; `layers` are what they are made of
process      noise schedules and respacing;  loss: what training minimises
pipeline     the order of steps, as a diffusers pipeline
convert      the published checkpoints to a diffusers folder, and back
generator    all of it as the server of a run;  settings: how that is run
"""
