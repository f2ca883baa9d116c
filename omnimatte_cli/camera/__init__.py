"""How the camera moves: homographies frame to canvas, exposure, the canvas. No torch here."""
