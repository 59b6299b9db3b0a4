"""Learners that embed examples and compare them, and what such learners are built from."""
