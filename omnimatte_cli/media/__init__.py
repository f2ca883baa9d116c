"""Reading and encoding of images and videos."""
