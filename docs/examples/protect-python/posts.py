"""An API that shows callers their own posts. Who they are it learns from Signet's access tokens, which it verifies by itself,
with the keys that Signet publishes."""

import json
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import URLError

import jwt

ISSUER = os.environ["ISSUER"]
AUDIENCE = "https://posts.example.com"  # this API's name: it takes no token that was issued for another one

socket.setdefaulttimeout(10)  # seconds, for callers and for the fetching of keys

# Keys are cached for five minutes, and fetched when a token names one that is not.
keys = jwt.PyJWKClient(f"{ISSUER}/.well-known/jwks.json")


def authenticate(authorization):
    """Returns what the token in the header says. Raises jwt.InvalidTokenError for a bad or expired one."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise jwt.InvalidTokenError("log in first")
    header = jwt.get_unverified_header(token)
    if header.get("typ") != "at+jwt" or header.get("alg") != "ES256":
        raise jwt.InvalidTokenError("this is no access token")
    return jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token).key,
        algorithms=["ES256"],  # never the algorithm that the token wishes for
        issuer=ISSUER,
        audience=AUDIENCE,
        options={"require": ["exp", "iss", "aud", "sub"]},
    )


class API(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path != "/posts":
            return self.answer(404, {"error": "there is nothing here"})
        try:
            claims = authenticate(self.headers.get("Authorization", ""))
        except jwt.PyJWTError as error:
            if isinstance(error.__context__, URLError):  # the keys could not be fetched
                return self.answer(503, {"error": "try again"})
            return self.answer(401, {"error": "log in first, or renew your token"})
        if "posts:read" not in claims["scope"].split():
            return self.answer(403, {"error": "the token does not allow posts:read"})
        self.answer(200, [post for post in posts if post["author"] == claims["sub"]])

    def answer(self, status, body):
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode() + b"\n")

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    with open("posts.json", encoding="utf-8") as file:
        posts = json.load(file)  # each author is a user's id: the sub of the user's tokens
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["API_PORT"])), API).serve_forever()
