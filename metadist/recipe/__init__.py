"""Recipes: their schema, their files, overrides on the command line."""
