"""The Open Inference Protocol over the raw graphs: what a KServe or Triton client speaks."""
