"""Properties that label makers share, by name."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from training.labels import LabelMaker


def assert_is_label(maker: LabelMaker, feedback_NF: Tensor, groups_NG: Tensor | None = None) -> None:
    """`[N]` of the input's dtype, finite, within [0, 1]; and no rows are an answer."""
    label = maker(feedback_NF, groups_NG)
    assert label.shape == (len(feedback_NF),)
    assert label.dtype == feedback_NF.dtype
    assert bool(label.isfinite().all())
    assert bool(((label >= 0) & (label <= 1)).all())
    assert maker(feedback_NF[:0], _some(groups_NG, slice(0))).shape == (0,)


def assert_row_wise(maker: LabelMaker, feedback_NF: Tensor, groups_NG: Tensor | None = None) -> None:
    """A row's label does not depend on which rows come with it, or in what order."""
    whole = maker(feedback_NF, groups_NG)
    order = torch.randperm(len(feedback_NF), generator=torch.Generator().manual_seed(0))
    for rows in (order, slice(1)):
        some = maker(feedback_NF[rows], _some(groups_NG, rows))
        torch.testing.assert_close(some, whole[rows], rtol=0, atol=1e-6)


def assert_does_not_fall_with_watch_time(maker: LabelMaker, duration_s: float) -> None:
    """Longer watched, other things equal, is never labelled lower."""
    feedback = torch.zeros(200, 8)
    feedback[:, 0] = torch.linspace(0, 3 * duration_s, 200)
    feedback[:, 1] = duration_s
    assert bool((maker(feedback).diff() >= -1e-6).all())


def assert_exports(
    maker: LabelMaker, feedback_NF: Tensor, folder: Path, groups_NG: Tensor | None = None
) -> ort.InferenceSession:
    """The ONNX graph, which is returned, labels 0, 1, 7 and 50 rows as torch does, to 1e-6."""
    inputs = {"feedback": feedback_NF} | ({} if groups_NG is None else {"group_ids": groups_NG})
    return assert_onnx_agrees_with_torch(maker.eval(), inputs, folder, atol=1e-6)


def assert_onnx_agrees_with_torch(
    module: nn.Module, inputs: dict[str, Tensor], folder: Path, *, atol: float
) -> ort.InferenceSession:
    """The ONNX graph of a module of rows, which is returned, answers 0, 1, 7 and 50 of them as torch does."""
    path = folder / "module.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, of its dependencies
        torch.onnx.export(
            module,
            tuple(array[:5] for array in inputs.values()),
            path,
            input_names=list(inputs),
            output_names=["answers"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},) * len(inputs),
            opset_version=18,
            dynamo=True,
            verbose=False,
        )
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    for rows in (0, 1, 7, 50):
        some = {name: array[:rows] for name, array in inputs.items()}
        (got,) = session.run(None, {name: array.numpy() for name, array in some.items()})
        with torch.no_grad():
            want = module(*some.values()).numpy()
        assert got.shape == want.shape
        assert got.shape[-1] == rows
        np.testing.assert_allclose(got, want, rtol=0, atol=atol)
    return session


def _some(groups_NG: Tensor | None, rows: Tensor | slice) -> Tensor | None:
    return None if groups_NG is None else groups_NG[rows]
