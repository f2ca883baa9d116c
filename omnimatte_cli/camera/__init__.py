"""How the picture moves between frames."""
