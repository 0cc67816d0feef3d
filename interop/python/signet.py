"""A running Signet, the program as it is released, and somebody at a browser."""

import html.parser
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urljoin

import requests
from requests.auth import HTTPBasicAuth

# For development: by themselves the libraries insist on https.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

USERNAME, PASSWORD = "ann", "correct horse battery"


class Signet:
    """A running server with an embedded database, a client and a user."""

    def __init__(self, test):
        self.dir = tempfile.mkdtemp(prefix="signet-interop-")
        test.addCleanup(shutil.rmtree, self.dir)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            address = "127.0.0.1:%d" % s.getsockname()[1]
        self.url = "http://" + address
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": self.dir,
            "SIGNET_ISSUER": self.url,
            "SIGNET_LISTEN": address,
            "SIGNET_MANAGEMENT_LISTEN": "",
        }
        self.program = os.path.abspath(os.environ["SIGNET_BIN"])
        client = json.loads(
            self.run(
                "client", "create", "--name", "App", "--scope", "read write", "--audience", "https://api.example.com",
                "--grant", "password", "--grant", "refresh_token", "--grant", "client_credentials", "-o", "json",
            )
        )
        self.client_id, self.client_secret = client["client_id"], client["client_secret"]
        self.run("user", "create", USERNAME, "--password-stdin", stdin=PASSWORD)

        log = Path(self.dir, "log")
        with log.open("w") as out:
            process = subprocess.Popen([self.program, "serve"], cwd=self.dir, env=self.env, stdout=out, stderr=out)
        test.addCleanup(process.wait)
        test.addCleanup(process.kill)
        deadline = time.monotonic() + 30
        while not self.ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("the server does not become ready:\n" + log.read_text())
            time.sleep(0.02)

    def run(self, *args, stdin=""):
        done = subprocess.run([self.program, *args], cwd=self.dir, env=self.env, input=stdin, capture_output=True, text=True)
        if done.returncode != 0:
            raise AssertionError("signet %s: %s" % (" ".join(args), done.stderr))
        return done.stdout

    def ready(self):
        try:
            return requests.get(self.url + "/readyz", timeout=30).ok
        except requests.ConnectionError:
            return False

    def active(self, token):
        auth = HTTPBasicAuth(self.client_id, self.client_secret)
        return requests.post(self.url + "/introspect", data={"token": token}, auth=auth, timeout=30).json()["active"]

    def register(self, *flags):
        return json.loads(self.run("client", "create", "-o", "json", *flags))


class Form(html.parser.HTMLParser):
    """The first form of a page."""

    def __init__(self, page):
        super().__init__()
        self.action, self.fields = None, {}
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "form" and self.action is None:
            self.action = found.get("action", "")
        elif tag == "input" and found.get("type") != "checkbox":
            self.fields[found["name"]] = found.get("value") or ""


def log_in(browser, address, until):
    """Opens an address in a browser, does what Signet's pages ask, and returns the one beginning with until that it is sent to."""
    method, body = "GET", None
    for _ in range(20):
        res = browser.request(method, address, data=body, allow_redirects=False, timeout=30)
        if res.is_redirect:
            address, method, body = urljoin(address, res.headers["location"]), "GET", None
            if address.startswith(until):
                return address
            continue
        form = Form(res.text)
        if res.status_code != 200 or form.action is None:
            break
        if "password" in form.fields:
            form.fields.update(username=USERNAME, password=PASSWORD)
        else:
            form.fields["decision"] = "allow"
        address, method, body = urljoin(address, form.action), "POST", form.fields
    raise AssertionError("%s: %d %s" % (address, res.status_code, res.text))
