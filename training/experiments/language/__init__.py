"""`compare language`: the next long view by a language model, with and without the counterfactual term."""
