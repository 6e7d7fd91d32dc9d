"""What carries messages to clients: this process, worker processes, Flower."""
