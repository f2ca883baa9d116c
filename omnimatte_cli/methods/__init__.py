"""How the layers of a clip are found: one folder a method."""
