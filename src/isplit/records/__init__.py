"""Frozen, versioned records: the only things that cross from room to room. Saved as JSON, one file each."""

from isplit.records.answers import Answer, AnswerSource, Timings, read_answers
from isplit.records.arrays import load_arrays, save_arrays
from isplit.records.base import Part, Record, write_whole
from isplit.records.bundle import (
    BundledFile,
    BundleRecord,
    CutPlacement,
    ImageFormat,
    ImageSetting,
    LocalPlacement,
    RemotePlacement,
)
from isplit.records.candidates import Candidate, CandidatesRecord, Ranking, Rule
from isplit.records.curve import CurvePoint, CurveRecord, Precision, SubsetCurve, Target
from isplit.records.graph import Crossing, Cut, CutKind, GraphRecord, Unavailable
from isplit.records.overlays import Overlays
from isplit.records.splits import (
    BottleneckSpec,
    Budget,
    Design,
    Measurement,
    Paired,
    PayloadBytes,
    Prediction,
    PredictionsRecord,
    RemoteImage,
    SplitRecord,
    Training,
)
from isplit.records.study import (
    Accuracy,
    ClassGroup,
    DataSource,
    Interpolation,
    ModelSource,
    PartName,
    Preprocessing,
    StudyRecord,
)

__all__ = [
    "Accuracy",
    "Answer",
    "AnswerSource",
    "BottleneckSpec",
    "Budget",
    "BundleRecord",
    "BundledFile",
    "Candidate",
    "CandidatesRecord",
    "ClassGroup",
    "Crossing",
    "CurvePoint",
    "CurveRecord",
    "Cut",
    "CutKind",
    "CutPlacement",
    "DataSource",
    "Design",
    "GraphRecord",
    "ImageFormat",
    "ImageSetting",
    "Interpolation",
    "LocalPlacement",
    "Measurement",
    "ModelSource",
    "Overlays",
    "Paired",
    "Part",
    "PartName",
    "PayloadBytes",
    "Precision",
    "Prediction",
    "PredictionsRecord",
    "Preprocessing",
    "Ranking",
    "Record",
    "RemoteImage",
    "RemotePlacement",
    "Rule",
    "SplitRecord",
    "StudyRecord",
    "SubsetCurve",
    "Target",
    "Timings",
    "Training",
    "Unavailable",
    "load_arrays",
    "read_answers",
    "save_arrays",
    "write_whole",
]
