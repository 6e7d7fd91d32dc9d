"""The clients' models: network, head, adapters, preprocessing."""
