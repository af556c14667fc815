"""Offline: logs in, bundles out. Imports `models`, never `service`."""

import os

# Threads of torch that wait for each other should sleep. Spinning ones make a step several times slower as
# soon as anything else runs on the machine. Read when torch is first imported, so it is set here.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
