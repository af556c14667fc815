"""What state costs: bytes a user and an event in the store, a video in the catalogue; memory a worker."""
