"""Flower as the carrier of our messages: a Grid on the server, a ClientApp that relays at the silo."""
