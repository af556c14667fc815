"""The endpoints of reelrank's own API, one file each."""
