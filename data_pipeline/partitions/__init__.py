"""Partitions: training images grouped without labels, so that clusters stand for classes."""
