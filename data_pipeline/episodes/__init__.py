"""How an episode is drawn: by its id alone, from a store or a function."""
