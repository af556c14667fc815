"""A bundle that runs: both graphs in ONNX Runtime, checked and self-tested before they are used.

The service answers from it and `python -m training evaluate --bundle` evaluates it, so both run the same
code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnxruntime as ort

from models.arrays import F32
from models.errors import ContractMismatch, CorruptBundle
from models.features import SEQUENCE_ID_COLUMNS, Array
from models.manifest import LABELER, OBJECTIVES, RANKER, VOCABULARY, Graph, Manifest, TensorSpec
from models.vocabulary import Vocabulary

Device = Literal["cpu", "cuda", "auto"]

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"

GPU_MEMORY_MIB: Final = 2048
"""For the arena of one graph on a GPU, by default: other processes have arenas on the same device."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Immutable, so that a request which holds one is never affected by a reload."""

    manifest: Manifest
    vocabulary: Vocabulary
    labeler: ort.InferenceSession
    ranker: ort.InferenceSession
    provider: str
    """`CPU` or `CUDA`: where the graphs really run."""
    labeler_outputs: frozenset[str]
    """What the labeler's graph gives, by name; bundles of former exports have no `percentiles`."""
    ranker_outputs: frozenset[str]
    """What the ranker's graph gives, by name."""
    runs: ort.RunOptions
    """Of every run: once `terminate` is set they end with an error, those that have begun too."""

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: Device = "cpu",
        threads: int = 1,
        gpu_memory_mib: int = GPU_MEMORY_MIB,
        runs: ort.RunOptions | None = None,
    ) -> Bundle:
        """Read, check and self-test one version.

        Args:
            folder: the version's folder.
            device: `cuda` fails if the graphs would not really run there; `auto` takes it if it can.
            threads: ONNX Runtime's threads within one call. One a process serves best on a shared machine.
            gpu_memory_mib: the most that each graph may take of a GPU's memory.
            runs: options of every run, for a caller that may have to end one: a graph can loop for ever.

        Raises:
            BundleNotFound, CorruptBundle, ContractMismatch: see `Manifest.read`; also for a file that is not
                what its name says, and for graphs or a vocabulary that are not those of the manifest.
            SelfTestFailed: the golden rows come out differently here.
        """
        manifest = Manifest.read(folder)
        vocabulary = Vocabulary.read(folder / VOCABULARY)
        if vocabulary.digest() != manifest.vocabulary_digest:
            raise ContractMismatch(f"{folder}: the vocabulary is not the one the graphs were fitted with.")
        needed = {*SEQUENCE_ID_COLUMNS, *(f"profile.{name}" for name in manifest.profile_categories)}
        needed.update(manifest.video_features.fields)
        if missing := sorted(needed - set(vocabulary.fields)):
            raise ContractMismatch(f"{folder}: the vocabulary has no field {missing[0]!r}; export it again.")
        providers = _providers(device, gpu_memory_mib)
        labeler = _session(folder / LABELER, manifest.labeler, device, threads, providers)
        ranker = _session(folder / RANKER, manifest.ranker, device, threads, providers)
        bundle = cls(
            manifest,
            vocabulary,
            labeler,
            ranker,
            ranker.get_providers()[0],
            frozenset(spec.name for spec in manifest.labeler.outputs),
            frozenset(spec.name for spec in manifest.ranker.outputs),
            runs or ort.RunOptions(),
        )
        manifest.labeler.golden.check(LABELER, bundle.run_labeler)
        manifest.ranker.golden.check(RANKER, bundle.run_ranker)
        return bundle

    @property
    def on_gpu(self) -> bool:
        """Whether the ranker runs on a GPU, where one run for many users takes as long as for one."""
        return self.provider != CPU

    @property
    def reads_features(self) -> bool:
        """Whether the ranker takes own features of videos."""
        return bool(self.manifest.video_features.names)

    def run_labeler(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Compute labels: `feedback` `[N, 8]` and, if the graph takes it, `group_ids` `[N, 2]` -> the named
        labels `[N]` and `percentiles` `[N, T]`, or all. What the graph does not take is left out. ONNX
        Runtime 1.32 computes every label, whichever are named, with `only_execute_path_to_fetches` too."""
        return self._run(self.labeler, _graph_inputs(self.manifest.labeler, inputs), outputs)

    def run_ranker(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Compute predictions: the arrays of `models.features` -> the named outputs, or all of the graph.
        What the graph does not take is left out.

        `objectives` `[B, N, T]`, and an objective `[B, N]` by its name, may be named of any bundle, whichever
        of them its graph has.
        """
        inputs = _graph_inputs(self.manifest.ranker, inputs)
        if outputs is None:
            return self._run(self.ranker, inputs, None)
        if self.ranker_outputs.issuperset(outputs):
            return self._run(self.ranker, inputs, outputs)
        names = self.manifest.objectives
        wanted = {OBJECTIVES} if OBJECTIVES in self.ranker_outputs else set(names)
        found = self._run(self.ranker, inputs, [*(self.ranker_outputs.intersection(outputs) | wanted)])
        if OBJECTIVES in found:
            found |= {name: found[OBJECTIVES][..., column] for column, name in enumerate(names)}
        else:
            joined: F32 = np.stack([found[name] for name in names], axis=-1)
            found[OBJECTIVES] = joined
        return {name: found[name] for name in outputs}

    def _run(
        self, session: ort.InferenceSession, inputs: Mapping[str, Array], outputs: Sequence[str] | None
    ) -> dict[str, Array]:
        names = outputs if outputs is not None else [o.name for o in session.get_outputs()]
        if self.on_gpu:
            return run_bound(session, inputs, names, self.runs)
        return dict(zip(names, session.run(names, dict(inputs), self.runs), strict=True))


def _graph_inputs(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    takes = {spec.name for spec in graph.inputs}
    return {name: array for name, array in inputs.items() if name in takes}


def run_bound(
    session: ort.InferenceSession, inputs: Mapping[str, Array], outputs: Sequence[str], runs: ort.RunOptions
) -> dict[str, Array]:
    """Run with bound arrays: of what a GPU computes, only `outputs` are copied back."""
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_cpu_input(name, np.ascontiguousarray(array))
    for name in outputs:
        binding.bind_output(name, "cpu")
    session.run_with_iobinding(binding, runs)
    return dict(zip(outputs, binding.copy_outputs_to_cpu(), strict=True))


def _providers(device: Device, gpu_memory_mib: int) -> list[Any]:
    """Where a graph may run, the best first."""
    if device == "cpu" or CUDA not in ort.get_available_providers():
        return [CPU]
    # By default an arena doubles whenever it grows, up to all that the device has.
    arena = {"arena_extend_strategy": "kSameAsRequested", "gpu_mem_limit": str(gpu_memory_mib * 2**20)}
    return [(CUDA, arena), CPU]


def session_options(threads: int) -> ort.SessionOptions:
    """Return the options of every session: threads within a call, none of which spins while it waits."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle spinning threads slow every other process on the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _session(
    path: Path, graph: Graph, device: Device, threads: int, providers: list[Any]
) -> ort.InferenceSession:
    options = session_options(threads)
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as e:  # onnxruntime raises a class of its own per status code, without a common base
        raise CorruptBundle(f"{path} cannot be loaded as an ONNX graph: {str(e).splitlines()[0]}") from e
    # onnxruntime falls back to the CPU without an error; only the session knows.
    if device == "cuda" and session.get_providers()[0] != CUDA:
        raise ContractMismatch(
            f"device `cuda` was asked for, but {path.name} runs on {session.get_providers()[0]}. "
            "Install the `gpu` extra, CUDA 13 and cuDNN 9, or set REELRANK_DEVICE=cpu."
        )
    _check(path, "input", session.get_inputs(), graph.inputs)
    _check(path, "output", session.get_outputs(), graph.outputs)
    return session


def _check(path: Path, kind: str, tensors: Sequence[ort.NodeArg], specs: Sequence[TensorSpec]) -> None:
    types = {"float32": "tensor(float)", "int64": "tensor(int64)"}
    found = {t.name: (t.type, *t.shape) for t in tensors}
    want = {s.name: (types[s.dtype], *s.shape) for s in specs}
    if found != want:
        raise ContractMismatch(f"{path}: {kind}s are {found}, the manifest has {want}.")
