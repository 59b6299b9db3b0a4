"""Bounded readers: images, Arrow and Parquet that strangers send."""
