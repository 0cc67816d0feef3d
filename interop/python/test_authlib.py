"""Logging in by browser with Authlib."""

import unittest

import requests
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth2Session
from authlib.jose import JsonWebKey, jwt
from authlib.oidc.core import CodeIDToken

from signet import USERNAME, Signet, log_in

CALLBACK = "http://127.0.0.1:1/callback"  # where nobody listens: the browser stops before it


class Authlib(unittest.TestCase):
    def test_login(self):
        signet = Signet(self)
        made = signet.register("--name", "Shop", "--redirect-uri", CALLBACK)
        known = requests.get(signet.url + "/.well-known/openid-configuration", timeout=30).json()
        client = OAuth2Session(
            made["client_id"], made["client_secret"], scope="openid profile offline_access", redirect_uri=CALLBACK,
            code_challenge_method="S256", token_endpoint=known["token_endpoint"],
        )
        verifier = generate_token(48)
        address, state = client.create_authorization_url(known["authorization_endpoint"], code_verifier=verifier, nonce="the nonce")
        with requests.Session() as browser:
            answer = log_in(browser, address, CALLBACK)
        token = client.fetch_token(authorization_response=answer, code_verifier=verifier, state=state)

        keys = JsonWebKey.import_key_set(requests.get(known["jwks_uri"], timeout=30).json())
        claims = jwt.decode(
            token["id_token"], keys, claims_cls=CodeIDToken,
            claims_options={"iss": {"value": signet.url}, "aud": {"value": made["client_id"]}},
            claims_params={"nonce": "the nonce", "client_id": made["client_id"], "access_token": token["access_token"]},
        )
        claims.validate()
        user = client.get(known["userinfo_endpoint"]).json()
        self.assertEqual((user["sub"], user["preferred_username"]), (claims["sub"], USERNAME))

        refreshed = client.refresh_token(known["token_endpoint"])
        self.assertNotEqual(refreshed["refresh_token"], token["refresh_token"])
        again = jwt.decode(refreshed["id_token"], keys)
        self.assertEqual((again["sub"], again["auth_time"]), (claims["sub"], claims["auth_time"]))


if __name__ == "__main__":
    unittest.main()
