"""Reading private data in two stages: `open_source` before the ledger has reserved, `load` after.

Names are loaded when they are first used, so that settings can be read without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from cloister.errors import MissingExtra

if TYPE_CHECKING:
    from cloister.data.encodings import ColumnEncoding, columns_from_histograms, encoding_from_json, encoding_to_json
    from cloister.data.examples import DataSpec, Examples, Loaded
    from cloister.data.histograms import HistogramDomain, histogram_domain
    from cloister.data.loading import load
    from cloister.data.public_shape import outline
    from cloister.data.rows import encode_rows
    from cloister.data.scattering import ScatteringFeatures
    from cloister.data.settings import (
        ColumnSettings,
        DataSettings,
        ImageFiles,
        StatisticsSettings,
        TargetSettings,
        TextSettings,
    )
    from cloister.data.source import Source, open_source

_HOMES = {
    "ColumnEncoding": "encodings",
    "ColumnSettings": "settings",
    "DataSettings": "settings",
    "DataSpec": "examples",
    "Examples": "examples",
    "HistogramDomain": "histograms",
    "ImageFiles": "settings",
    "Loaded": "examples",
    "ScatteringFeatures": "scattering",
    "Source": "source",
    "StatisticsSettings": "settings",
    "TargetSettings": "settings",
    "TextSettings": "settings",
    "columns_from_histograms": "encodings",
    "encode_rows": "rows",
    "encoding_from_json": "encodings",
    "encoding_to_json": "encodings",
    "histogram_domain": "histograms",
    "load": "loading",
    "open_source": "source",
    "outline": "public_shape",
}

__all__ = [
    "ColumnEncoding",
    "ColumnSettings",
    "DataSettings",
    "DataSpec",
    "Examples",
    "HistogramDomain",
    "ImageFiles",
    "Loaded",
    "ScatteringFeatures",
    "Source",
    "StatisticsSettings",
    "TargetSettings",
    "TextSettings",
    "columns_from_histograms",
    "encode_rows",
    "encoding_from_json",
    "encoding_to_json",
    "histogram_domain",
    "load",
    "open_source",
    "outline",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("pyarrow", "torch"):
            raise
        raise MissingExtra(error.name, extra="train") from error
