"""Real sites: certificates and keys, the server's and a silo's processes, runs submitted to them."""
