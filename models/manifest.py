"""What travels beside the two graphs: the contract they were exported under, and how well they did.

`manifest.json` names every file of the bundle with its checksum, the tensors of both graphs with their
units, the golden rows that a loader must reproduce before it serves, and the metrics of the recipe.

This file is long because a manifest is one document, and its parts are read together.
"""

from __future__ import annotations

import errno
import hashlib
import math
import stat
import sys
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import BundleNotFound, ContractMismatch, CorruptBundle, SelfTestFailed
from models.features import Array, columns_digest
from models.histogram import Histogram
from models.metrics import STATES
from models.schema import MAX_TIMESTAMP_MS
from models.signals import NO_SIGNALS, Signals
from models.video_features import NO_VIDEO_FEATURES, VideoFeatures

MANIFEST: Final = "manifest.json"
LABELER: Final = "labeler.onnx"
RANKER: Final = "ranker.onnx"
VOCABULARY: Final = "vocabulary.json"

HISTORY_LENGTH: Final = "history_length"
DURATION: Final = "event.duration_s"
WATCH_RATIO: Final = "event.watch_ratio"
INPUTS: Final = (HISTORY_LENGTH, DURATION, WATCH_RATIO)
"""Names of `Manifest.reference` for what goes in: exposures that the ranker is given of a user, the length of
the video of an event, and the share of it that was watched."""
OBJECTIVES: Final = "objectives"
"""Output `[B, N, T]` of a ranker: a column for each of `Manifest.objectives`. Graphs of former exports have
an output an objective instead, by its name."""
EXPECTED_SECONDS: Final = "expected_watch_time_s"
"""Output `[B, N]` of a ranker: the mean watch time, where `watch_time_s` is about the median."""
EXPECTED_WATCH_TIME: Final = "expected_watch_time"
"""Output `[B, N]` of a ranker: the same in [0, 1], on the scale of the objective `watch_time`. Weights of a
request may name it."""
WATCH_STATES: Final = "states"
"""Output `[B, N, 3]` of a ranker: probabilities of `models.metrics.STATES`. Graphs of former exports have
none of these three."""
PERCENTILES: Final = "percentiles"
"""Output `[N, T]` of a labeler: for each of `Manifest.labels` the share of training rows whose label is
lower, those with the same label counted half. Graphs of former exports have none."""
INTERPOLATED: Final = {PERCENTILES: 1e-3, "quantiles_s": 1e-3}
"""Tolerance of outputs that are read off a curve, absolute and relative: where labels lie close together, or
a part of a distribution has next to no weight, they move by thousands of times what the rounding does."""
LABEL: Final = "label."
RANKED: Final = "ranker."
"""Names for what comes out are these and its own, e.g. `label.labelcraft`, `ranker.watch_time_s`."""

MAX_BYTES: Final = 2**24
"""Of `manifest.json`, whose golden rows make most of it; the released one has 64 kB."""
MAX_SIZE: Final = 4096
"""Of any fixed axis, and of a sequence. Memory is taken as a manifest says, before a graph has run."""

Size = Annotated[int, Field(ge=0, le=MAX_SIZE)]
Dim = Size | Literal["B", "N", "L", "H"]
"""A fixed size, or a free axis: B users, N rows or candidates, L sequence steps, H history entries."""
Count = Annotated[int, Field(ge=0, le=2**53)]
"""What every reader of JSON keeps exactly."""
Moment = Annotated[int, Field(ge=0, le=MAX_TIMESTAMP_MS)]
"""Unix milliseconds."""
Tolerance = Annotated[float, Field(ge=0, le=0.1)]
Figure = Annotated[int, Field(ge=-(2**53), le=2**53)] | float | None

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern=r"^[0-9]{8}-[0-9a-f]{8}$")]


class Part(BaseModel):
    """Base of everything in a manifest: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class TensorSpec(Part):
    """One input or output of a graph."""

    name: str
    dtype: Literal["float32", "int64"]
    shape: tuple[Dim, ...]
    unit: Literal["s", "ratio", "probability", "value", "row", "raw"]
    """`row` is a row of the vocabulary; `value` an objective in [0, 1]; `raw` a column mix, see
    `models.features`."""


class Tensor(Part):
    """An array with its shape, because axes may be empty."""

    dtype: Literal["float32", "int64"]
    shape: tuple[Size, ...]
    data: tuple[float, ...]

    @model_validator(mode="after")
    def _is_an_array(self) -> Tensor:
        if math.prod(self.shape) != len(self.data):
            raise ValueError(f"shape {self.shape} does not hold {len(self.data)} values")
        if self.dtype == "int64" and not all(x.is_integer() for x in self.data):
            raise ValueError("int64 holds something else than whole numbers")
        return self

    @classmethod
    def from_array(cls, array: np.ndarray[Any, Any]) -> Tensor:
        """Flatten an array, float32 or int64."""
        return cls(dtype=str(array.dtype), shape=array.shape, data=tuple(array.ravel().tolist()))

    def array(self) -> Array:
        """Return the array with its shape and type."""
        out: Array = np.array(self.data, np.dtype(self.dtype)).reshape(self.shape)
        return out


class GoldenRows(Part):
    """Rows that the trainer's torch modules answered. They are made up: no row of a log is in a bundle."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    atol: Annotated[Tolerance, Field(gt=0)] = 1e-4
    rtol: Tolerance = 1e-4

    def check(self, graph: str, run: Callable[[Mapping[str, Array]], Mapping[str, Array]]) -> None:
        """Replay the rows.

        Raises:
            SelfTestFailed: the graph cannot run them, or an output is missing, of another shape, or off by
                more than `atol + rtol·|want|`, see `INTERPOLATED` too; NaN counts as off.
        """
        try:
            got = run({name: t.array() for name, t in self.inputs.items()})
        except Exception as e:  # onnxruntime raises a class of its own per status code, without a common base
            raise SelfTestFailed(f"{graph}: its golden rows cannot be run: {str(e).splitlines()[0]}") from e
        for name, tensor in self.outputs.items():
            want = tensor.array()
            have = got.get(name)
            if have is None or have.shape != want.shape:
                found = "no such output" if have is None else f"shape {have.shape}"
                raise SelfTestFailed(
                    f"{graph}: output {name!r} should have shape {want.shape}, found {found}."
                )
            atol, rtol = (max(t, INTERPOLATED.get(name, 0.0)) for t in (self.atol, self.rtol))
            off = np.abs(have - want) - rtol * np.abs(want)
            worst = float(off.max()) if off.size else 0.0
            if not worst <= atol:  # so written, NaN fails too
                raise SelfTestFailed(
                    f"{graph}: output {name!r} is off by {worst:.2e}, allowed {atol:.0e}. "
                    "Another runtime version or a damaged graph; export the bundle again."
                )


class Graph(Part):
    """One ONNX file: its tensors and its golden rows."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    golden: GoldenRows

    @model_validator(mode="after")
    def _golden_rows_cover_every_tensor(self) -> Graph:
        for specs, rows in ((self.inputs, self.golden.inputs), (self.outputs, self.golden.outputs)):
            if {s.name for s in specs} != set(rows):
                raise ValueError(f"golden rows hold {sorted(rows)}, not {sorted(s.name for s in specs)}")
        return self


class Forgetting(Part):
    """How rows left a run that had been fitted on them."""

    method: Literal["none", "tables", "retraining"]
    """Nothing where the ledger names no row; tables and vocabulary without the rows, around weights that were
    fitted with them; or everything fitted anew."""
    weights: Sha256
    """Of the run's former `release.pt`."""
    ledger: Sha256
    """Of the lines, in order, each once."""
    lines: Count
    rows: Count
    """Exposures that they name."""
    seconds: float
    figures: dict[str, Figure]
    """What was verified, as `NAME_before` and `NAME_after`."""


class Training(Part):
    """Where the weights come from."""

    recipe: str
    seed: Count
    dataset: str
    source: str
    licence: str
    rows: Count
    users: Count
    watermark_ms: Moment
    """The newest row that weights or tables have seen; `evaluate` refuses a window before it."""
    forgotten_until_ms: Moment | None = Field(default=None, exclude_if=lambda until: until is None)
    """No user whom the unlearning ledger names up to then has been seen. `None`: no ledger was read. Left out
    of the file where there is none, for services of former builds."""
    forgetting: Forgetting | None = Field(default=None, exclude_if=lambda done: done is None)
    """`None` of runs of `fit`. Left out likewise."""
    git_commit: str
    machine: str


class Margin(Part):
    """A mean difference over users, and where the middle 95 % of resampled users have it."""

    difference: float
    low: float
    high: float


class LabelEvidence(Part):
    """What learned labels gain on later days, in the composite that they are learned for.

    Labels are learned on the days before each of `windows`, and slates by them are scored on it; see
    `training/labelcraft/evidence.py`.
    """

    objectives: tuple[str, ...]
    windows: Count
    users: Count
    composite: dict[Literal["learned", "frozen", "shuffled"], float]
    """Means over users, in deviations of an objective over users: of learned labels, of those at their start,
    and of those learned from gradients of other rows."""
    by_objective: dict[str, dict[Literal["frozen", "learned"], float]] = {}
    """Means over the same users of each objective, in its own unit. Empty in bundles of former exports."""
    over_frozen: Margin
    over_shuffled: Margin
    halves_correlation: float
    """Of labels that were learned on disjoint halves of the users, over the log's rows."""


class LikesAboveHates(Part):
    """How often a like is labelled above a hate of rows from elsewhere, when no label sees which is which.

    Figures are of users whom the labels were not learned from.
    """

    weight: float
    """Beside the objectives, of the same share among the users whom they were learned from."""
    users: Count
    rows: Count
    auc: float
    """Of the labels."""
    watched_share_auc: float
    """Of the watched share, min(w / d, 1)."""


class LearnerChoices(Part):
    """Hyperparameters of the closed form that decide how far labels go; see `ClosedFormConfig`."""

    temperature: float
    learning_rate: float
    ridge: float
    smoothness: float
    steps: Count
    redraws: Count


class LearnedLabels(Part):
    """How the first of the labels was learned."""

    learner: Literal["closed_form", "one_step"]
    gradient: Literal["exact", "one_step", "shuffled"]
    """Of the recommender's scores by the labels; `shuffled` knows nothing of the rows."""
    steps: Count
    """Of the outer level; of `one_step` the epochs up to the one that was kept."""
    distance: float
    """Root mean square change of the log's labels from their start, in their deviations."""
    choices: LearnerChoices | None = None
    """`None` in bundles of former exports, or the learner is `one_step`."""
    left_out: tuple[str, ...] = ()
    """Objectives that were asked for and are the same of all slates, so that nothing was learned for them."""
    evidence: LabelEvidence | None = None
    """`None`: the log is too short for it, or the learner is `one_step`."""
    likes_above_hates: LikesAboveHates | None = None
    """`None`: they were learned without likes and hates."""
    allowed_unlearned: str | None = None
    """What the export would have been refused for, had it not been asked for all the same."""


class Comparison(Part):
    """One figure of the ranker beside that of a simple predictor, on the same rows."""

    baseline: Literal["median", "mean", "popularity", "trees"]
    """Of the earlier days: the median or the mean of all watch times, the mean of the same video, or boosted
    trees on what the encoder reads."""
    figure: Literal["mae_s", "rmse_s", "xauc"]
    """RMSE is that of the predicted mean, the others of the point prediction."""
    ranker: float
    simple: float
    """The baseline's."""
    outcome: Literal["better", "worse", "undecided"]
    """Of the ranker; undecided where the 95 % interval of the difference over users has 0 inside."""


class Evaluation(Part):
    """How the figures in `metrics` were made: by the same recipe, fitted on the days before `from_ms`."""

    fitted_before_ms: Moment
    from_ms: Moment
    to_ms: Moment
    metrics: dict[str, Figure]
    by_tab: dict[str, dict[str, Figure]] = {}
    baselines: dict[str, dict[str, Figure]] = {}
    """The same figures of predictors that need no training, e.g. `median`."""
    comparisons: tuple[Comparison, ...] = ()
    """Empty in bundles of former exports."""


class Manifest(Part):
    """The whole of `manifest.json`."""

    schema_version: Literal[1] = 1
    version: Version
    created_at: AwareDatetime
    files: dict[str, Sha256]
    """Every other file of the bundle."""
    columns_digest: str
    vocabulary_digest: str
    labeler: Graph
    ranker: Graph
    optimised: Literal["basic"] | None = None
    """The level of ONNX Runtime's optimisations that the graphs were saved after. `basic` folds and fuses
    among standard operators, for any machine; what suits one machine alone is left to loading."""
    labels: tuple[str, ...]
    """Outputs of the labeler, each a label in [0, 1]; the first is the default of POST /label. The columns of
    its output `percentiles`, too."""
    labels_by_user: tuple[str, ...] = ()
    """Those that compare within groups of users: they need to know a profile."""
    objectives: tuple[str, ...]
    """What the score is fused from, each in [0, 1]: the columns of the ranker's output `objectives`."""
    weights: dict[str, Annotated[float, Field(allow_inf_nan=False)]]
    """Default fusion weights, chosen on the early-stop split."""
    sequence_length: Annotated[Size, Field(gt=0)]
    """Most steps of a sequence the ranker was trained on; the newest are kept."""
    profile_numbers: tuple[str, ...] = ()
    profile_categories: tuple[str, ...] = ()
    signals: Signals = NO_SIGNALS
    """Own feedback signals: columns of `feedback` and `sequence_feedback` after those of every bundle."""
    video_features: VideoFeatures = NO_VIDEO_FEATURES
    """Own features of videos: `candidate_numbers` and `candidate_categories` of the ranker."""
    default_tab: str | None = None
    """Taken for the slate's tab when a request names none."""
    training: Training
    learned_labels: LearnedLabels | None = None
    """`None` in bundles of former exports."""
    evaluation: Evaluation | None = None
    reference: dict[str, Histogram] = {}
    """How inputs and outputs were distributed over the rows that were fitted on; what a service sees later is
    compared with it. Empty in bundles that were exported without their data."""

    @model_validator(mode="after")
    def _names_are_of_outputs(self) -> Manifest:
        labels, outputs = ({t.name for t in graph.outputs} for graph in (self.labeler, self.ranker))
        for spec in self.ranker.outputs:
            if spec.name == OBJECTIVES:
                if spec.shape != ("B", "N", len(self.objectives)):
                    raise ValueError(f"`{OBJECTIVES}` must have a column an objective, found {spec.shape}")
                outputs |= set(self.objectives)
            if spec.name == WATCH_STATES and spec.shape != ("B", "N", len(STATES)):
                raise ValueError(f"`{WATCH_STATES}` must have a column a state, found {spec.shape}")
        for spec in self.labeler.outputs:
            if spec.name == PERCENTILES:
                if spec.shape != ("N", len(self.labels)):
                    raise ValueError(f"`{PERCENTILES}` must have a column a label, found {spec.shape}")
                labels.remove(PERCENTILES)
        for member, names, among in (
            ("labels", self.labels, labels),
            ("objectives", self.objectives, outputs),
            ("weights", self.weights, set(self.objectives)),
        ):
            if not names or not set(names) <= among:
                raise ValueError(f"`{member}` must be some of {sorted(among)}, found {sorted(names)}")
        if not set(self.labels_by_user) <= set(self.labels):
            raise ValueError(f"`labels_by_user` must be among {self.labels}, found {self.labels_by_user}")
        known = {*INPUTS, *(LABEL + name for name in self.labels), *(RANKED + name for name in outputs)}
        if unknown := sorted(set(self.reference) - known):
            raise ValueError(f"`reference` names {unknown[0]!r}, which is no input or output")
        return self

    @property
    def reads_history(self) -> bool:
        """Whether the ranker takes `history_ids` and `history_feedback`; those of former exports do not."""
        return any(spec.name == "history_ids" for spec in self.ranker.inputs)

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read one version and check what can be checked without running it.

        Raises:
            BundleNotFound: the folder or its manifest does not exist.
            CorruptBundle: the manifest is not one, a file is missing or differs from its checksum, or has no
                checksum: a graph could read it.
            ContractMismatch: it was fitted on another column order.
        """
        path = folder / MANIFEST
        try:
            with _opened(path, MAX_BYTES) as file:
                manifest = cls.model_validate_json(file.read())
        except FileNotFoundError:
            raise BundleNotFound(f"{path} does not exist; name a bundle's folder.") from None
        except OSError as e:
            raise CorruptBundle(f"{path} cannot be read: {e.strerror}. Copy the bundle again.") from e
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise CorruptBundle(f"{path} is not a manifest of this build: {where}: {first['msg']}.") from e
        manifest._check_files(folder)
        ours = columns_digest(
            grouped=any(spec.name == "group_ids" for spec in manifest.labeler.inputs),
            reads_history=manifest.reads_history,
            signals=manifest.signals,
            video_features=manifest.video_features,
        )
        if manifest.columns_digest != ours:
            raise ContractMismatch(
                f"{manifest.version} was fitted on columns {manifest.columns_digest}, this build lays "
                f"out {ours}. Export it again, or deploy the build it was made with."
            )
        return manifest

    def _check_files(self, folder: Path) -> None:
        if missing := {LABELER, RANKER, VOCABULARY} - set(self.files):
            raise CorruptBundle(
                f"{folder / MANIFEST} names no {sorted(missing)[0]}; export the bundle again."
            )
        if more := sorted({path.name for path in folder.iterdir()} - {MANIFEST, *self.files}):
            raise CorruptBundle(
                f"{folder / more[0]} has no checksum in {MANIFEST}; remove it from the bundle."
            )
        for name, want in self.files.items():
            if Path(name).name != name or "\0" in name:
                raise CorruptBundle(f"{folder / MANIFEST} names {name!r}, which is not a plain file name.")
            try:
                with _opened(folder / name) as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as e:
                raise CorruptBundle(
                    f"{folder / name} cannot be read: {e.strerror}. Copy the bundle again."
                ) from e
            if found != want:
                raise CorruptBundle(
                    f"{folder / name} has sha256 {found[:12]}…, the manifest has {want[:12]}…. "
                    "The file is damaged or of another version; copy the bundle again."
                )


def _opened(path: Path, most: int = sys.maxsize) -> BufferedReader:
    """Open a file of at most `most` bytes. Anything else that has the name, a pipe for one, might never end.

    Raises:
        OSError: it cannot be read, is longer, or is no file.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "not a file")
    if found.st_size > most:
        raise OSError(errno.EFBIG, f"longer than {most} bytes")
    return path.open("rb")
