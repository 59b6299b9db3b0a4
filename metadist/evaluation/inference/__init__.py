"""A trained learner in memory: it adapts to examples that it is given, and predicts for others."""
