"""The class store: the images of a dataset by class, prepared once."""
