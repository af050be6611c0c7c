"""A web server on 127.0.0.1 that misbehaves as it is told, and remembers what it was asked."""

import hashlib
import re
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Web:
    """What the server serves, and how.

    Attributes
    ----------
    files
        Content by path; a request for anything else is answered 404.
    faults
        By path, what happens to the next requests, one after the other: an integer state (503), ``("drop", n)``
        (n bytes, then the connection ends), ``("trickle", s)`` (a byte every s seconds), ``("silent", s)``,
        ``("change", content)`` (the file becomes another one first), ``("headers", {...})``.
    ranges, etags, dates, lengths
        Whether ranges are served, and these headers sent.
    pause
        Seconds after each 64 kB.
    asked
        (path, Range, If-Range) of every request.
    """

    def __init__(self) -> None:
        self.files, self.faults, self.asked = {}, {}, []
        self.ranges = self.etags = self.dates = self.lengths = True
        self.pause, self.sent = 0.0, 0
        self.url = ""

    def add(self, path: str, content: bytes, *faults) -> str:
        """Serve content; return its address."""
        self.files[path], self.faults[path] = content, deque(faults)
        return f"{self.url}/{path}"


def _handler(web: Web):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def do_CONNECT(self):
            web.asked.append((self.path, "CONNECT", None))
            self.send_error(502)

        def do_GET(self):
            path = re.sub(r"^http://[^/]+", "", self.path).lstrip("/")
            address = self.path if "://" in self.path else path
            web.asked.append((address, self.headers["Range"], self.headers["If-Range"]))
            faults = web.faults.get(path)
            fault = faults.popleft() if faults else None
            self.close_connection = True
            with suppress(BrokenPipeError, ConnectionResetError):
                self.serve(path, fault)

        def serve(self, path, fault):
            kind, value = fault if isinstance(fault, tuple) else (fault, None)
            if kind == "change":
                web.files[path] = value
            if isinstance(kind, int) or path not in web.files:
                self.send_response(kind if isinstance(kind, int) else 404)
                self.send_header("Content-Length", "0")
                for header in (value or {}).items():
                    self.send_header(*header)
                self.end_headers()
                return
            if kind == "silent":
                time.sleep(value)
                return
            content = web.files[path]
            tag = f'"{hashlib.md5(content).hexdigest()}"' if web.etags else None
            date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(len(content))) if web.dates else None
            start, end = self.wanted(content, tag, date)
            self.send_response(200 if start is None else 206)
            if start is not None:
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(content)}")
                content = content[start : end + 1]
            self.head(content, tag, date, value if kind == "headers" else {})
            self.body(content, kind, value)

        def wanted(self, content, tag, date):
            asked = re.match(r"bytes=(\d+)-(\d*)$", self.headers["Range"] or "")
            condition = self.headers["If-Range"]
            if not asked or not web.ranges or (condition and condition not in (tag, date)):
                return None, None
            end = int(asked.group(2)) if asked.group(2) else len(content) - 1
            return int(asked.group(1)), min(end, len(content) - 1)

        def head(self, content, tag, date, changed):
            given = {"ETag": tag, "Last-Modified": date, "Content-Length": str(len(content)) if web.lengths else None}
            for name, said in (given | changed).items():
                if said is not None:
                    self.send_header(name, said)
            self.end_headers()

        def body(self, content, kind, value):
            if kind == "drop":
                content = content[:value]
            step = 1 if kind == "trickle" else 1 << 16
            for place in range(0, len(content), step):
                self.wfile.write(content[place : place + step])
                self.wfile.flush()
                web.sent += step
                time.sleep(value if kind == "trickle" else web.pause)

    return Handler


@contextmanager
def serving():
    """Run a server; yield its :class:`Web`."""
    web = Web()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(web))
    server.daemon_threads = True
    web.url, web.server = f"http://127.0.0.1:{server.server_address[1]}", server
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
