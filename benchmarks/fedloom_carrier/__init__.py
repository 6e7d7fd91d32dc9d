"""The same messages over fedloom: its federations and a client that does next to nothing."""
