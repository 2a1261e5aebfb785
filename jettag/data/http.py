"""Byte ranges over HTTP, each request one GET whose status counts. Needs aiohttp, of the [remote] extra.

fsspec's own file system asks with HEAD first, which signed addresses refuse, takes every failure of it for a missing
file, and reads a file to its end where a server does not know ranges.
"""

from typing import Any

from fsspec.implementations.http import HTTPFileSystem

from jettag.errors import DataError

__all__ = ["RangedHttp"]

FIRST = 64  # bytes that are asked for to learn a file's size
KEPT = ("Content-MD5", "Digest", "ETag", "Last-Modified")
DOWNLOAD = "download the file first"


class RangedHttp(HTTPFileSystem):  # type: ignore[misc]
    """`_info` and `_cat_file` of fsspec's HTTP file system by ranges alone; proxies and .netrc are honoured."""

    def __init__(self, **options: Any) -> None:
        client = {"trust_env": True} | options.pop("client_kwargs", {})
        super().__init__(client_kwargs=client, **options)

    async def _info(self, url: str, **_: Any) -> dict[str, Any]:
        """Name, size and whatever the server tells of the version.

        Raises:
            FileNotFoundError: the server has no such file.
            DataError: it does not give ranges, or does not tell the size.
        """
        if url.endswith("/"):
            return {"name": url, "size": None, "type": "directory"}
        session = await self.set_session()
        async with session.get(self.encode_url(url), **self._asking(0, FIRST)) as answer:
            size = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if answer.status == 416:  # an empty file has no first byte
                size = size or "0"
            elif answer.status != 206:
                self._refuse(answer, url)
        if not size.isdigit():
            raise DataError("the server does not tell the size of the file", do=DOWNLOAD)
        kept = {name: answer.headers[name] for name in KEPT if answer.headers.get(name)}
        return {"name": url, "size": int(size), "type": "file", **kept}

    async def _cat_file(self, url: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Bytes from ``start`` up to ``end``."""
        session = await self.set_session()
        async with session.get(self.encode_url(url), **self._asking(start or 0, end)) as answer:
            if answer.status != 206:
                self._refuse(answer, url)
            content: bytes = await answer.read()
        return content

    def _asking(self, start: int, end: int | None) -> dict[str, Any]:
        """Arguments of a request for a range; compressed answers would be ranges of something else."""
        last = "" if end is None else end - 1
        asked = {"Range": f"bytes={start}-{last}", "Accept-Encoding": "identity"}
        return {**self.kwargs, "headers": {**self.kwargs.get("headers", {}), **asked}}

    def _refuse(self, answer: Any, url: str) -> None:
        """Say why an answer without a range is of no use."""
        self._raise_not_found_for_status(answer, url)
        raise DataError(f"the server gives whole files only (HTTP {answer.status} to a range)", do=DOWNLOAD)
