"""Networks that the papers compare themselves with."""
