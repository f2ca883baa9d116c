"""Our own step: a network says whose each change is, and layers follow in closed form."""
