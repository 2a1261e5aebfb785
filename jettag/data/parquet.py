"""Parquet files of jets: columns in, columns out, page checksums always on. Needs the [parquet] extra."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import awkward as ak

from jettag.data.remote import Remote
from jettag.errors import ResourceError

__all__ = ["METADATA_KEY", "ParquetSource", "read_parquet_metadata", "write_parquet"]

METADATA_KEY = "metadata"  # one JSON object under this name, in Parquet as in ROOT


def pyarrow_parquet() -> Any:
    """The pyarrow.parquet module.

    Raises:
        ResourceError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise ResourceError("Parquet needs pyarrow", do='pip install "jettag[parquet]"') from None
    return pq


def write_parquet(path: Path, clusters: Iterator[dict[str, ak.Array]], metadata: Mapping[str, str]) -> int:
    """Write clusters of columns, one row group each; return the number of rows. Not atomic: `write_tree` is."""
    pq = pyarrow_parquet()
    rows = 0
    writer = None
    try:
        for cluster in clusters:
            table = ak.to_arrow_table(ak.zip(cluster, depth_limit=1), list_to32=True, extensionarray=False)
            if writer is None:
                # awkward's own schema metadata describes its extension types, which are off: ours replaces it.
                schema = table.schema.with_metadata({METADATA_KEY: json.dumps(dict(metadata))})
                writer = pq.ParquetWriter(str(path), schema, compression="zstd", write_page_checksum=True)
            writer.write_table(table.replace_schema_metadata(schema.metadata))
            rows += table.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows


def read_parquet_metadata(path: Path) -> dict[str, str]:
    """The metadata `write_parquet` kept; empty where there is none."""
    raw = pyarrow_parquet().read_schema(str(path)).metadata or {}
    return {str(k): str(v) for k, v in json.loads(raw.get(METADATA_KEY.encode(), b"{}")).items()}


class ParquetSource:
    """One Parquet file seen as a tree: ``names``, ``num_entries``, ``chunks``."""

    tree_name = ""
    note = ""

    def __init__(self, place: Path | Remote) -> None:
        remote = isinstance(place, Remote)
        # From an address a row group at a time: pyarrow asks for its columns together, and for no more than it needs.
        self._file = pyarrow_parquet().ParquetFile(
            place.open() if isinstance(place, Remote) else str(place),
            page_checksum_verification=True,
            pre_buffer=remote,
        )
        groups = range(self._file.num_row_groups)
        self._groups = [[group] for group in groups] if remote else [list(groups)]
        self.names = list(self._file.schema_arrow.names)
        self.num_entries = int(self._file.metadata.num_rows)

    def chunks(self, names: Sequence[str], entries: int, stop: int) -> Iterator[dict[str, ak.Array]]:
        """Columns of at most ``entries`` rows at a time, up to row ``stop``."""
        begin = 0
        for groups in self._groups:
            for batch in self._file.iter_batches(batch_size=entries, row_groups=groups, columns=list(names)):
                if begin >= stop:
                    return
                array = ak.from_arrow(batch)[: stop - begin]
                begin += len(batch)
                yield {name: array[name] for name in names}

    def __enter__(self) -> "ParquetSource":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()
