"""The seam: what is shipped, and the contract that describes it. Network definitions stay in `training/`."""
