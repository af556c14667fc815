"""From measured figures to the machines that an audience needs, step by step."""
