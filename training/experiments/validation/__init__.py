"""Whether estimates and experiments find what is true, on data whose truth is known."""
