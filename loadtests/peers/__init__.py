"""The same graph and the same requests behind other model servers, in turn with ours."""
