"""The clean plate of every frame, with what is a guess and how much each pixel varies."""
