"""How those who compute are told to save, to yield or to stop."""
