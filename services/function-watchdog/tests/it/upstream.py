"""A function's HTTP server by hand, for what common ones do not do: trailers, upgrades, broken answers.

Usage: upstream.py PORT-FILE. Without PORT in the environment it takes a free port, which it writes to the file.
"""
import os, socket, sys, threading, time


def read_head(stream):
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return None
        head += line
    return head


def read_body(stream, head):
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        raw = b""
        while True:
            size = stream.readline()
            raw += size
            if int(size, 16) == 0:
                while (line := stream.readline()) not in (b"\r\n", b""):
                    raw += line
                return raw
            raw += stream.read(int(size, 16) + 2)
    for line in lower.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return stream.read(int(line.split(b":")[1]))
    return b""


def answer(text):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


def serve(connection, folder):
    with connection, connection.makefile("rb") as stream:
        exchange(connection, stream, folder)


def exchange(connection, stream, folder):
    while head := read_head(stream):
        path = head.split()[1]
        if path == b"/upgrade":
            connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
            while data := stream.read1():
                connection.sendall(data)
            return
        if path == b"/trailers":
            body = read_body(stream, head)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n")
            connection.sendall(b"%x\r\n%s\r\n0\r\nx-sum: 42\r\n\r\n" % (len(body), body))
        elif path == b"/gone":
            open(os.path.join(folder, "asked"), "w").close()
            if not stream.read(1):
                open(os.path.join(folder, "gone"), "w").close()
            return
        elif path == b"/break":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            connection.close()
            return
        elif path == b"/nothing":
            connection.close()
            return
        elif path == b"/never":
            time.sleep(3600)
        elif path == b"/events":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.sendall(b"8\r\ndata: 1\n\r\n")
            # The second event comes when the first was read: see the file that the test makes.
            while not os.path.exists(os.path.join(folder, "read")):
                time.sleep(0.005)
            connection.sendall(b"8\r\ndata: 2\n\r\n0\r\n\r\n")
        elif path == b"/stream":
            length = int([l.split(b":")[1] for l in head.lower().split(b"\r\n") if l.startswith(b"content-length:")][0])
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length)
            while length:
                data = stream.read1(65536)
                length -= len(data)
                connection.sendall(data)
        elif path == b"/exit":
            os._exit(3)
        else:
            connection.sendall(answer(head + read_body(stream, head)))


def main():
    folder = sys.argv[1]
    listener = socket.create_server(("127.0.0.1", int(os.environ.get("PORT", sys.argv[2]))), backlog=128)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, folder), daemon=True).start()


main()
