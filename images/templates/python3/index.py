#!/usr/bin/env python3
"""HTTP server of the template python3-http: calls handle(event, context) of the user's handler.py.

What a handler gets and may answer is what OpenFaaS's template of the same name has. That one
stands on Flask, this one on waitress alone, because what need not be loaded makes a start faster.
Beyond it: every method reaches the handler, a dict's body may be bytes or a generator, and a
header's value a list, which is sent as one header an item.

A request's body is read whole before the handler runs, in memory up to BODY_IN_MEMORY bytes and
beyond that in a temporary file, and handed over as one bytes object; over MAX_BODY it gets 413.

Started by Inplace's watchdog, these variables are set; without them it is an ordinary server:

  INPLACE_SOURCE     folder of the user's code (/home/app/function)
  PORT               where to listen on 127.0.0.1 (5000)
  INPLACE_NOTIFY_FD  file descriptor for the lines "loaded" (all but the user's code is there) and
                     "ready" (the user's code is, too, and calls can be answered)
  INPLACE_SPARE      1: after "loaded", wait for one line on stdin, the folder of the user's code
"""

import importlib
import importlib.util
import json
import os
import signal
import socket
import sys
import traceback
import types
import urllib.parse
from http.client import responses

from waitress import create_server, wasyncore
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

# The folder is read-only, and what is compiled from it lives as long as this process.
sys.dont_write_bytecode = True

MAX_BODY = 256 * 1024 * 1024
BODY_IN_MEMORY = 1024 * 1024
THREADS = 8
CONNECTIONS = 1000


class Headers:
    """The request's headers. Names are case-insensitive; iterating gives (name, value) pairs."""

    def __init__(self, environ):
        self._values = {}
        for key, value in environ.items():
            if key.startswith("HTTP_"):
                self._values[key[5:].replace("_", "-").lower()] = value
            elif key in ("CONTENT_TYPE", "CONTENT_LENGTH") and value:
                self._values[key.replace("_", "-").lower()] = value

    def __getitem__(self, name):
        return self._values[name.lower()]

    def __contains__(self, name):
        return name.lower() in self._values

    def __iter__(self):
        return iter(self.items())

    def __len__(self):
        return len(self._values)

    def __repr__(self):
        return f"Headers({self.items()!r})"

    def get(self, name, default=None, type=None):
        return convert(self._values.get(name.lower()), default, type)

    def getlist(self, name):
        return [self._values[name.lower()]] if name in self else []

    get_all = getlist

    def keys(self):
        return [name.title() for name in self._values]

    def values(self):
        return list(self._values.values())

    def items(self):
        return [(name.title(), value) for name, value in self._values.items()]


class Query(dict):
    """The query's parameters: a dict of each one's first value; getlist() gives all of one."""

    def __init__(self, text):
        self._lists = urllib.parse.parse_qs(text, keep_blank_values=True)
        super().__init__((name, values[0]) for name, values in self._lists.items())

    def get(self, name, default=None, type=None):
        return convert(super().get(name), default, type)

    def getlist(self, name):
        return list(self._lists.get(name, ()))

    def to_dict(self, flat=True):
        return dict(self) if flat else {name: list(values) for name, values in self._lists.items()}


def convert(value, default, kind):
    """A value as get() gives it: the default where there is none, or none of that type."""
    if value is None:
        return default
    if kind is None:
        return value
    try:
        return kind(value)
    except ValueError:
        return default


class Event:
    """A request."""

    def __init__(self, environ):
        self.body = environ["wsgi.input"].read()
        self.headers = Headers(environ)
        self.method = environ["REQUEST_METHOD"]
        self.query = Query(environ.get("QUERY_STRING", ""))
        # WSGI has the path's bytes as latin-1.
        self.path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace") or "/"


class Context:
    """Where the function runs."""

    def __init__(self):
        self.hostname = os.getenv("HOSTNAME", "localhost")


class Application:
    """The WSGI application. Its handler comes later than the server that it answers for."""

    def __init__(self):
        self.handle = None

    def __call__(self, environ, start_response):
        try:
            answer = self.handle(Event(environ), Context())
            status, headers, body = to_response(answer)
            status = status_line(status)
        except BaseException:
            # waitress would leave the call without an answer at what is not an Exception.
            traceback.print_exc()
            status, body = status_line(500), [b"Internal Server Error\n"]
            headers = [("Content-Type", "text/plain; charset=utf-8")]
        start_response(status, headers)
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        return body


def to_response(answer):
    """(status, headers, body parts) of whatever a handler may return."""
    if answer is None:
        return finish("", 200, [])
    if isinstance(answer, dict):
        body = answer.get("body")
        if body is None:
            body = ""
        if not isinstance(body, (dict, str, bytes, bytearray)) and not is_stream(body):
            body = str(body)
        return finish(body, answer.get("statusCode", 200), answer.get("headers", []))
    if isinstance(answer, tuple):
        if len(answer) == 3:
            return finish(*answer)
        if len(answer) == 2:
            body, second = answer
            if isinstance(second, (dict, list, tuple)):
                return finish(body, 200, second)
            return finish(body, second, [])
        raise TypeError(f"a tuple must be (body, status, headers), not of {len(answer)} items")
    return finish(answer, 200, [])


def finish(body, status, headers):
    pairs = headers.items() if isinstance(headers, dict) else headers or []
    headers = [header(name, value) for name, values in pairs for value in each(values)]
    content_type = "text/html; charset=utf-8"
    if isinstance(body, (dict, list)):
        body = json.dumps(body, sort_keys=True, separators=(",", ":")) + "\n"
        content_type = "application/json"
    if isinstance(body, str):
        body = body.encode()
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", content_type))
    if isinstance(body, (bytes, bytearray)):
        body = bytes(body)
        if not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("Content-Length", str(len(body))))
        return status, headers, [body]
    if is_stream(body):
        return status, headers, parts(body)
    raise TypeError(f"a handler cannot return a {type(body).__name__}")


def is_stream(body):
    return hasattr(body, "__next__")


def parts(body):
    try:
        for part in body:
            yield part.encode() if isinstance(part, str) else part
    except (Exception, GeneratorExit):
        raise
    except BaseException as error:
        # As in Application: waitress ends the answer at an Exception only.
        raise RuntimeError("the body ended early") from error


def each(values):
    return values if isinstance(values, (list, tuple)) else [values]


def header(name, value):
    name, value = str(name), str(value)
    if any(c in name + value for c in "\r\n\0"):
        raise ValueError(f"the header {name!r} holds a line end")
    return name, value


def status_line(status):
    """Accepts 404, "404" and "404 Not Found"."""
    text = str(status)
    if " " in text:
        return text
    return f"{int(text)} {responses.get(int(text), 'Unknown')}"


class Refusal(ErrorTask):
    """The answer to a request that no handler sees, such as one with too large a body."""

    def execute(self):
        self.channel.refused = True
        super().execute()

    def write(self, body):
        error = self.request.error
        body = f"{error.reason}: {error.body}\n".encode()
        self.content_length = len(body)
        super().write(body)


class Channel(HTTPChannel):
    """A connection. Closed with unread bytes of a refused request it would be reset, and a sender
    still busy with them may then miss the answer: so the answer's end is sent, and what still
    comes is dropped until the sender closes too, or waitress's channel_timeout is over."""

    error_task_class = Refusal
    refused = False
    lingers = False

    def handle_close(self):
        if self.refused and not self.lingers:
            self.lingers = True
            self.will_close = False
            # What waitress took the body's beginning for.
            self.request = None
            try:
                self.socket.shutdown(socket.SHUT_WR)
                return
            except OSError:
                pass
        super().handle_close()

    def handle_read(self):
        if not self.lingers:
            super().handle_read()
            return
        try:
            self.recv(self.adj.recv_bytes)
        except OSError:
            self.handle_close()


def load(source):
    """handle() of the user's code, which is the package `function`, as on OpenFaaS: there both
    `from .x import y` and `from function.x import y` work."""
    os.chdir(source)
    init = os.path.join(source, "__init__.py")
    if os.path.exists(init):
        spec = importlib.util.spec_from_file_location(
            "function", init, submodule_search_locations=[source]
        )
        package = importlib.util.module_from_spec(spec)
        sys.modules["function"] = package
        spec.loader.exec_module(package)
    else:
        package = types.ModuleType("function")
        package.__path__ = [source]
        sys.modules["function"] = package
    handler = importlib.import_module("function.handler")
    if not callable(getattr(handler, "handle", None)):
        raise SystemExit(f"{handler.__file__} has no function handle(event, context)")
    return handler.handle


def print_from(error, folder):
    trace = error.__traceback__
    while trace and not trace.tb_frame.f_code.co_filename.startswith(folder + os.sep):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace)


class Notify:
    """Tells the watchdog how far we are."""

    def __init__(self):
        number = os.environ.pop("INPLACE_NOTIFY_FD", "")
        self.fd = int(number) if number else None
        if self.fd is not None:
            # Not for the programs that a handler starts.
            os.set_inheritable(self.fd, False)

    def say(self, word, last=False):
        if self.fd is not None:
            os.write(self.fd, word.encode() + b"\n")
            if last:
                os.close(self.fd)
                self.fd = None


def serve(server, channels):
    """Answers calls until SIGTERM, then those that run, then ends."""
    stopping = False

    def stop(*_):
        nonlocal stopping
        stopping = True
        server.pull_trigger()

    signal.signal(signal.SIGTERM, stop)
    busy = True
    while not stopping or busy:
        wasyncore.loop(timeout=1, use_poll=True, map=channels, count=1)
        if stopping:
            server.accepting = False
            calls = server.active_channels.values()
            busy = any(call.request or call.requests or call.total_outbufs_len for call in calls)
    server.task_dispatcher.shutdown(timeout=1)


def main():
    notify = Notify()
    application = Application()
    source = os.environ.get("INPLACE_SOURCE", "/home/app/function")
    spare = os.environ.pop("INPLACE_SPARE", "") == "1"
    # Said before the port is open: a server that says nothing is taken for ready when it is.
    notify.say("loaded")
    channels = {}
    server = create_server(
        application,
        map=channels,
        host="127.0.0.1",
        port=int(os.environ.get("PORT", "5000")),
        threads=THREADS,
        connection_limit=CONNECTIONS,
        asyncore_use_poll=True,
        max_request_body_size=MAX_BODY,
        inbuf_overflow=BODY_IN_MEMORY,
        clear_untrusted_proxy_headers=False,
        ident=None,
    )
    server.channel_class = Channel
    if spare:
        source = sys.stdin.readline().rstrip("\n")
        if not source:
            return
    os.environ["INPLACE_SOURCE"] = source
    try:
        application.handle = load(source)
    except Exception as error:
        # From the user's own lines on: who reads this has not written the ones before.
        print_from(error, source)
        sys.exit(1)
    notify.say("ready", last=True)
    serve(server, channels)


if __name__ == "__main__":
    main()
