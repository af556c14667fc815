"""Online: feedback in, labels and slates out. Imports `models`, never `training`."""
