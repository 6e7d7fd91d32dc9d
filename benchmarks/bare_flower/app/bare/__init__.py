"""A Flower app with no fedloom in it."""
