"""A method for the tests: each object is cut out along its mask."""
