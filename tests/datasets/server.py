"""A server on 127.0.0.1 that misbehaves on request, and the archive that it serves."""

import hashlib
import http.server
import io
import time
import zipfile

from fuxictr.datasets import registry

CONTENT = {split: (f"{split},1\n" * 200_000).encode() for split in registry.SPLITS}
MD5 = tuple(hashlib.md5(CONTENT[s], usedforsecurity=False).hexdigest() for s in registry.SPLITS)
DATASET = registry.RawDataset("Tiny_x1", "Tiny", "tiny_x1", MD5)


def make_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


GOOD_ZIP = make_zip({f"Tiny_x1/{split}.csv": content for split, content in CONTENT.items()})


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; ``plan`` says what the next answers are, then it behaves.

    An entry of the plan is a status, or (status, Retry-After), or "break" (half of the file),
    "stall" (half of it, then silence), "no-range".
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.plan, self.requests = GOOD_ZIP, None, [], []
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        """A client that hangs up is part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Knows Range and If-Range."""

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        step = server.plan.pop(0) if server.plan else "serve"
        if isinstance(step, int):
            step = (step, None)
        if isinstance(step, tuple):
            self.answer(step[0], b"", {"Retry-After": step[1]})
            return
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if not asked or step == "no-range" or (condition and condition != server.etag):
            self.answer(200, server.body, {"ETag": server.etag}, step)
            return
        begin, size = int(asked.removeprefix("bytes=").rstrip("-")), len(server.body)
        if begin >= size:
            self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
        else:
            part = {"Content-Range": f"bytes {begin}-{size - 1}/{size}", "ETag": server.etag}
            self.answer(206, server.body[begin:], part, step)

    def answer(self, status, body, headers, step="serve"):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if step in ("break", "stall") else body)
        if step == "stall":
            self.wfile.flush()
            time.sleep(1.0)

    def log_message(self, *args):
        """Keeps the test's output clean."""
