"""A run: build, pretrain, loop, evaluate, summarise. One builder of clients for local runs, silos and exports."""
