"""Bounded readers of what strangers send: images, Arrow, Parquet."""
