"""The same graph and the same request behind other servers, in turn with ours."""
