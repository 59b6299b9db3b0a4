"""Episodes in webdataset tars: written, indexed, read, verified."""
