"""What supports a score: sanity checks of images and texts."""
