"""From a run to a bundle, and what else is written from one: labels of a log, a model card, other layouts."""
