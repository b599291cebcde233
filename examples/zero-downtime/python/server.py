"""An app whose port stays open while its releases change: systemd listens and hands the socket over, and the old release
answers what it has accepted before it ends. GET / tells which release answers. Python's own server, nothing to install."""

import os
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ending = threading.Event()
count = threading.Lock()
connections = requests = 0


def release():
    """The hash in version.txt beside the program."""
    try:
        return (Path(__file__).resolve().parent / "version.txt").read_text().strip()
    except FileNotFoundError:
        return "working copy"


HASH = release()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay open
    wbufsize = -1  # an answer leaves in one piece

    def do_GET(self):
        global requests
        with count:
            requests += 1
        try:
            body = f"{HASH}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            if ending.is_set():
                self.send_header("Connection", "close")  # the next request comes on another one, to the next release
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
        finally:
            with count:
                requests -= 1

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.socket.close()
        if "LISTEN_FDS" in os.environ:
            self.socket = socket.socket(fileno=3)  # the one that systemd holds for us
        else:
            self.socket = socket.create_server(("127.0.0.1", int(os.environ.get("PORT", "8000"))), backlog=128)

    def process_request(self, request, client_address):
        global connections
        with count:  # before its thread begins, so that none is overlooked
            connections += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        global connections
        try:
            super().process_request_thread(request, client_address)
        finally:
            with count:
                connections -= 1

    def server_close(self):
        self.socket.close()  # and leave the threads to end()


def end(server):
    """Answers what is left. Who connects from now on waits in the socket for the next release."""
    server.server_close()
    # Connections in use are gone after one more answer. Idle ones, as browsers keep them, are not waited for.
    patience = time.monotonic() + 1
    while connections and time.monotonic() < patience:
        time.sleep(0.005)
    long = time.monotonic() + 10
    while requests and time.monotonic() < long:
        time.sleep(0.005)


def main():
    server = Server()

    def stop(signum, frame):
        ending.set()
        threading.Thread(target=server.shutdown).start()  # from this thread it would wait for itself

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever(poll_interval=0.05)
    end(server)


if __name__ == "__main__":
    main()
