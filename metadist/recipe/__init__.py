"""Recipes: their sections, their files, rates that change in mid-run."""
