"""The seam: what is shipped, and the contract that describes it.

Network definitions stay in `training/`.
"""

import os

# Since 1.29 ONNX Runtime's builds report to their vendor, from the moment they are loaded, and keep an id on
# the disk. A service must not report to third parties. Read when onnxruntime is first imported, so it is set
# here.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
