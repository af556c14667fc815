"""OpenAPI: what the handlers read and answer, told to those who write clients."""
