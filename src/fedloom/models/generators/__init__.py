"""The server's text-to-image models: pixel, Stable Diffusion, GLIDE."""
