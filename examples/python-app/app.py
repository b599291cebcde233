"""A small WSGI app: GET /version tells which release answers, GET /healthz that something does."""

import json
from pathlib import Path

# __file__ lies in the release that this process was started from, not in what the link `current` names by now.
HERE = Path(__file__).resolve().parent


def read_version():
    """What Towline writes into version.json while it packs; a working copy has none."""
    try:
        return json.loads((HERE / "version.json").read_text())
    except FileNotFoundError:
        return {"hash": "working copy", "msg": "", "date": ""}


VERSION = read_version()


def app(environ, start_response):
    path = environ.get("PATH_INFO", "")
    if path == "/version":
        return answer(start_response, "200 OK", "application/json", json.dumps(VERSION) + "\n")
    if path == "/healthz":
        return answer(start_response, "200 OK", "text/plain", "ok\n")
    return answer(start_response, "404 Not Found", "text/plain", "nothing here\n")


def answer(start_response, status, kind, text):
    body = text.encode()
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]
