"""Signet, the program as it is released, with requests-oauthlib."""

import time
import unittest

import requests
from oauthlib.oauth2 import BackendApplicationClient, InvalidClientError, InvalidGrantError, LegacyApplicationClient
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from signet import PASSWORD, USERNAME, Signet


class RequestsOAuthlib(unittest.TestCase):
    def setUp(self):
        self.signet = Signet(self)

    def test_password_refresh_and_revocation(self):
        signet, url = self.signet, self.signet.url
        client_id, client_secret = signet.client_id, signet.client_secret
        username, password = USERNAME, PASSWORD
        kept = []
        save = kept.append

        auth = HTTPBasicAuth(client_id, client_secret)
        session = OAuth2Session(
            client=LegacyApplicationClient(client_id, scope=["read"]),
            auto_refresh_url=url + "/token",
            auto_refresh_kwargs={"client_id": client_id, "client_secret": client_secret},
            token_updater=save,  # keeps the new tokens: the old refresh token is spent
        )
        token = session.fetch_token(url + "/token", username=username, password=password, auth=auth)

        self.addCleanup(session.close)
        self.assertEqual((token["token_type"], token["scope"], token["expires_in"]), ("Bearer", ["read"], 900))
        self.assertTrue(signet.active(token["access_token"]))

        # The credentials in the body are as good.
        with OAuth2Session(client=LegacyApplicationClient(client_id)) as other:
            other.fetch_token(
                url + "/token", username=username, password=password, client_secret=client_secret, include_client_id=True
            )
        with self.assertRaises(InvalidGrantError):
            session.fetch_token(url + "/token", username=username, password="wrong password", auth=auth)
        with self.assertRaises(InvalidClientError):
            session.fetch_token(url + "/token", username=username, password=password, auth=HTTPBasicAuth(client_id, "wrong"))

        # A token that has expired is refreshed before it is used.
        old = dict(token)
        session.token = {**token, "expires_at": time.time() - 1}
        session.get(url + "/livez").raise_for_status()
        self.assertEqual(len(kept), 1)
        new = kept[0]
        self.assertNotEqual(new["refresh_token"], old["refresh_token"])
        self.assertEqual(session.token["access_token"], new["access_token"])
        self.assertTrue(signet.active(new["access_token"]))
        session.get(url + "/livez").raise_for_status()
        self.assertEqual(len(kept), 1)

        # Refreshed by hand, after which the token of before is spent.
        newer = session.refresh_token(url + "/token")
        self.assertTrue(signet.active(newer["refresh_token"]))
        self.assertFalse(signet.active(new["refresh_token"]))

        target, headers, body = session._client.prepare_token_revocation_request(
            url + "/revoke", session.token["refresh_token"], token_type_hint="refresh_token"
        )
        requests.post(target, headers=headers, data=body, auth=auth, timeout=10).raise_for_status()

        self.assertFalse(signet.active(newer["access_token"]))
        with self.assertRaises(InvalidGrantError):
            session.refresh_token(url + "/token")

    def test_client_credentials(self):
        signet, url = self.signet, self.signet.url
        client_id, client_secret = signet.client_id, signet.client_secret

        session = OAuth2Session(client=BackendApplicationClient(client_id))
        token = session.fetch_token(url + "/token", auth=HTTPBasicAuth(client_id, client_secret))

        self.addCleanup(session.close)
        self.assertEqual(token["scope"], ["read", "write"])
        self.assertNotIn("refresh_token", token)
        self.assertTrue(signet.active(token["access_token"]))


if __name__ == "__main__":
    unittest.main()
