"""Byte ranges over HTTP, each request one GET whose status counts. Needs aiohttp, of the [remote] extra.

fsspec's own file system asks with HEAD first, which signed addresses refuse, takes every failure of it for a missing
file, and reads a file to its end at every request where a server does not know ranges. Here `_info` tells that it does
not, and `_get_file` brings the whole file once.
"""

from pathlib import Path
from typing import Any

from aiohttp import ClientTimeout
from fsspec.implementations.http import HTTPFileSystem

from jettag.errors import DataError

__all__ = ["RangedHttp"]

FIRST = 64  # bytes that are asked for to learn a file's size
KEPT = ("Content-MD5", "Digest", "ETag", "Last-Modified")
DOWNLOAD = "download the file first"


class RangedHttp(HTTPFileSystem):  # type: ignore[misc]
    """fsspec's HTTP file system, with three methods of its own; proxies and .netrc are honoured."""

    def __init__(self, **options: Any) -> None:
        client = {"trust_env": True} | options.pop("client_kwargs", {})
        super().__init__(client_kwargs=client, **options)
        self._without_ranges: set[str] = set()  # addresses seen

    async def _info(self, url: str, **_: Any) -> dict[str, Any]:
        """Name, size, whether there are ``ranges``, and whatever the server tells of the version.

        Raises:
            FileNotFoundError: the server has no such file.
            DataError: it refuses, or does not tell the size.
        """
        if url.endswith("/"):
            return {"name": url, "size": None, "type": "directory"}
        session = await self.set_session()
        known = url in self._without_ranges  # then HEAD spares a server that would begin to send all of it
        ask = session.head if known else session.get
        async with ask(self.encode_url(url), allow_redirects=True, **self._asking(0, FIRST)) as answer:
            size = answer.headers.get("Content-Range", "").rpartition("/")[2]
            if answer.status == 416:  # an empty file has no first byte
                size = size or "0"
            elif answer.status == 200:  # the answer of a server without ranges; its body is left unread
                size = answer.headers.get("Content-Length", "")
                self._without_ranges.add(url)
            elif answer.status != 206 and not known:
                self._refuse(answer, url)
        if known and not size.isdigit():  # it may refuse HEAD and not GET
            self._without_ranges.discard(url)
            return await self._info(url)
        if not size.isdigit():
            raise DataError("the server does not tell the size of the file", do=DOWNLOAD)
        kept = {name: answer.headers[name] for name in KEPT if answer.headers.get(name)}
        return {"name": url, "size": int(size), "type": "file", "ranges": answer.status != 200, **kept}

    async def _cat_file(self, url: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Bytes from ``start`` up to ``end``."""
        session = await self.set_session()
        async with session.get(self.encode_url(url), **self._asking(start or 0, end)) as answer:
            if answer.status != 206:
                self._refuse(answer, url)
            content: bytes = await answer.read()
        return content

    async def _get_file(self, url: str, path: str, *, size: int, timeout: float, **_: Any) -> None:
        """Write the whole file to a path; it may take long as long as something comes within ``timeout`` seconds."""
        patience = ClientTimeout(total=None, sock_connect=timeout, sock_read=timeout)
        await super()._get_file(url, path, **self._with_headers(), timeout=patience)
        if (came := Path(path).stat().st_size) != size:
            raise ConnectionError(f"{came} of {size} bytes came")

    def _asking(self, start: int, end: int | None) -> dict[str, Any]:
        """Arguments of a request for a range."""
        return self._with_headers(Range=f"bytes={start}-{'' if end is None else end - 1}")

    def _with_headers(self, **headers: str) -> dict[str, Any]:
        """Arguments of a request; compressed, its answer would be of another size, and a range of something else."""
        return {
            **self.kwargs,
            "headers": {**self.kwargs.get("headers", {}), "Accept-Encoding": "identity", **headers},
        }

    def _refuse(self, answer: Any, url: str) -> None:
        """Say why an answer without a range is of no use."""
        self._raise_not_found_for_status(answer, url)
        raise DataError(f"the server gives whole files only (HTTP {answer.status} to a range)", do=DOWNLOAD)
