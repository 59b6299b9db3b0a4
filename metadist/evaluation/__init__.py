"""A trained learner on unseen tasks: protocols, figures, ensembles, diagnostics."""
