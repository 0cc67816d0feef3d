"""Shop is a web app whose users log in with Signet, with Flask and Authlib. Tokens stay on the server."""

import os
import secrets
import time
from urllib.parse import urlencode, urlsplit

from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import OAuth
from flask import Flask, redirect, render_template_string, request, session

APP_URL = os.environ["APP_URL"]

app = Flask(__name__)
app.secret_key = os.environ["SESSION_SECRET"]  # signs the cookie, which everybody can read who has it: no tokens in there
app.config.update(
    SESSION_COOKIE_NAME="shop_session",
    SESSION_COOKIE_HTTPONLY=True,
    SESSION_COOKIE_SAMESITE="Lax",  # it comes along when Signet sends the browser back here, and not with what other sites post
    SESSION_COOKIE_SECURE=APP_URL.startswith("https:"),
)
signet = OAuth(app).register(
    "signet",
    server_metadata_url=os.environ["ISSUER"] + "/.well-known/openid-configuration",
    client_id="shop",
    client_secret=os.environ["CLIENT_SECRET"],
    client_kwargs={"scope": "openid profile", "code_challenge_method": "S256"},
)

# Who is logged in, by the id in the cookie. In production they are in a database.
sessions = {}


def logged_in():
    """Returns the session of this request, with an access token that lives, or None. When the token has expired, Signet is asked
    for a new one, and says whether the session is still good."""
    kept = sessions.get(session.get("id"))
    if kept is None or time.time() < kept["tokens"]["expires_at"] - 1:
        return kept
    try:
        # Requests that come at once need no lock: they all get the same successor.
        new = signet.fetch_access_token(grant_type="refresh_token", refresh_token=kept["tokens"]["refresh_token"])
    except OAuthError as err:
        if err.error != "invalid_grant":
            raise
        sessions.pop(session.pop("id"), None)  # logged out elsewhere, or by an administrator
        return None
    kept["tokens"] = {**kept["tokens"], **new}
    return kept


@app.get("/login")
def login():
    return signet.authorize_redirect(APP_URL + "/callback")


@app.get("/callback")
def callback():
    if "error" not in request.args and request.args.get("iss") != os.environ["ISSUER"]:
        return show("This is not the answer of the server that was asked.", 400)
    try:
        tokens = signet.authorize_access_token()  # it checks the state, the ID token, its nonce and its signature
    except OAuthError as err:  # access_denied: the user does not want to
        if session.get("id") in sessions:  # back by the browser's button, with an answer that nobody waits for any more
            return redirect("/", 303)
        return show(f"You are not logged in: {err.error}.", 403)
    session.clear()
    session["id"] = secrets.token_urlsafe()
    sessions[session["id"]] = {"user": tokens["userinfo"], "tokens": tokens}
    return redirect("/", 303)


@app.post("/logout")
def logout():
    """Ends the session here, and at Signet. Else the next click on "Log in" would log in again at once."""
    kept = sessions.pop(session.get("id"), None)
    session.clear()
    params = {"client_id": "shop", "post_logout_redirect_uri": APP_URL + "/"}
    if kept:
        params["id_token_hint"] = kept["tokens"]["id_token"]
    return redirect(signet.load_server_metadata()["end_session_endpoint"] + "?" + urlencode(params), 303)


@app.get("/")
def home():
    kept = sessions.get(session.get("id"))
    return show(f"You are {kept['user']['preferred_username']}." if kept else "You are not logged in.")


@app.get("/orders")
def orders():
    """Shows what an API says, which is Signet's own userinfo endpoint here. Yours takes the access token the same way."""
    kept = logged_in()
    if kept is None:
        return redirect("/login", 303)
    about = signet.userinfo(token=kept["tokens"])
    return show(f"The orders of {about['preferred_username']}, whom the API knows as {about['sub']}.")


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Shop</title>
<p>{{ text }}</p>
<p><a href="/login">Log in</a> · <a href="/orders">Orders</a></p>
<form method="post" action="/logout"><button>Log out</button></form>
</html>
"""


def show(text, status=200):
    return render_template_string(PAGE, text=text), status, {"Cache-Control": "no-store"}  # it is for one user


if __name__ == "__main__":
    app.run("127.0.0.1", urlsplit(APP_URL).port)
