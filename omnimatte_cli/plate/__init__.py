"""The clean plate: what the camera sees where no object is."""
