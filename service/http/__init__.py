"""HTTP around the endpoints: middleware, bodies, errors, authorization, OpenAPI."""
