"""What another bundle, or other weights, would have earned on the slates that a service has explored."""
