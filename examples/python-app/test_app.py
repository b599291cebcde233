import json
import unittest
from wsgiref.util import setup_testing_defaults

import app


def get(path):
    got = {}
    environ = {"PATH_INFO": path}
    setup_testing_defaults(environ)
    body = b"".join(app.app(environ, lambda status, headers: got.update(status=status, headers=dict(headers))))
    return got["status"], body


class AppTest(unittest.TestCase):
    def test_version(self):
        status, body = get("/version")
        self.assertEqual(status, "200 OK")
        self.assertEqual(json.loads(body), app.VERSION)

    def test_nothing(self):
        self.assertEqual(get("/nope")[0], "404 Not Found")


if __name__ == "__main__":
    unittest.main()
