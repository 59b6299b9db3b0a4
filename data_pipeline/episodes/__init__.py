"""What an episode is, and how it is drawn: by its id alone, from a store or a function."""
