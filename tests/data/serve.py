"""A web server of one folder that knows byte ranges, or not, and how to fail: Python's own knows neither."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Server:
    """What is asked of it, and what it does.

    Attributes:
        folder: what it serves; an address that ends in a slash is a page with its content.
        url: its address.
        ranges: whether it gives them.
        asked: (path, first byte, last byte) of each request.
        whole: the path of each request for no range.
        trouble: the request's number (0, 1, ...) and path to a status, ``drop`` in the middle of the body, ``silence``,
            ``whole`` (no range this time) or None to serve.
        headers: sent with every answer.
    """

    folder: Path
    url: str = ""
    ranges: bool = True
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    trouble: Callable[[int, str], int | str | None] = lambda number, path: None
    headers: dict[str, str] = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def bytes_of(self, name: str) -> int:
        """Bytes asked of a file."""
        return sum(last - first + 1 for path, first, last in self.asked if path == f"/{name}")


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server of a folder on a free port of this machine."""
    state = Server(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, status, content=b"", **headers):
            self.send_response(status)
            for name, value in {**state.headers, **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self):
            path = self.path.partition("?")[0]
            file = state.folder / path.lstrip("/")
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            content = file.read_bytes() if file.is_file() else b""
            first = int(match[1]) if match else 0
            last = min(int(match[2] or len(content)) if match else len(content), len(content) - 1)
            with state.lock:
                number = len(state.asked)
                state.asked.append((path, first, last))
                if not match:
                    state.whole.append(path)
            trouble = state.trouble(number, path)
            if trouble == "silence":
                state.closing.wait()
                self.close_connection = True
            elif isinstance(trouble, int):
                self.answer(trouble)
            elif file.is_dir():
                names = "".join(f'<a href="{name.name}">{name.name}</a>' for name in sorted(file.iterdir()))
                self.answer(200, f"<html>{names}</html>".encode(), Content_Type="text/html")
            elif not file.is_file():
                self.answer(404)
            elif trouble == "drop" and not (state.ranges and match):
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            elif trouble == "whole" or not match or not state.ranges:
                self.answer(200, content)
            elif first >= len(content):
                self.answer(416, Content_Range=f"bytes */{len(content)}")
            elif trouble == "drop":
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
                self.send_header("Content-Length", str(last - first + 1))
                self.end_headers()
                self.wfile.write(content[first : (first + last) // 2])
                self.close_connection = True
            else:
                self.answer(206, content[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(content)}")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        state.closing.set()
        server.shutdown()
        server.server_close()
