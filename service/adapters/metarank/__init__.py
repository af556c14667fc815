"""The vocabulary of Metarank's API, mapped on ours, so that its clients work unchanged; see README.md."""
