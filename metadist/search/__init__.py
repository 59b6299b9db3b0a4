"""Searches of hyper-parameters: trials, confirmation of what was found, and their report."""
