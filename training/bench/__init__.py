"""What the expensive steps and the exported graphs cost, as JSON: `python -m training bench`."""

from training.bench._graphs import bench_graphs
from training.bench._precision import bench_precision
from training.bench._steps import bench_encoder, bench_meta_step, bench_soft_topk

__all__ = [
    "bench_encoder",
    "bench_graphs",
    "bench_meta_step",
    "bench_precision",
    "bench_soft_topk",
]
