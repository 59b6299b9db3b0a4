"""Hyper-parameter search: trials, confirmation of what was found, and their report."""
