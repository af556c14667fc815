"""The endpoints of reelrank's own API, one file per group of routes."""
