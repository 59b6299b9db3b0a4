"""An auto-encoder of images: an embedding that is learned without labels."""
