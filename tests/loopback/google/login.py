"""Google's OAuth 2.0 server: tokens for the keys of service accounts, and whose a token is.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest
"""

from __future__ import annotations

import base64
import json
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from loopback.google.answers import unauthenticated
from loopback.google.state import OWNER, Caller, GoogleState
from loopback.wire import Request, Response

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_SECONDS = 3600


class Login:
    """Keys, tokens, and whose they are.

    Args:
        state: What Google keeps.
        url: Where this server is.
    """

    def __init__(self, state: GoogleState, url: str) -> None:
        self._state = state
        self._url = url
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self.refused: set[str] = set()

    def key_file(self, path: Path, email: str, project: str) -> Path:
        """Write the key file of a service account, and return where it is."""
        key = self._keys.get(email) or rsa.generate_private_key(
            public_exponent=65537, key_size=2048
        )
        self._keys[email] = key
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        document = {
            "type": "service_account",
            "project_id": project,
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": email,
            "client_id": "1",
            "token_uri": f"{self._url}/token",
        }
        path.write_text(json.dumps(document))
        return path

    def person_file(self, path: Path, email: str, quota_project: str | None = None) -> Path:
        """Write the login of a person, and return where it is.

        It is of the kind that gcloud leaves for people of another identity provider, as that
        names the server that its tokens are of. Without an audience, the library does not ask
        Google itself where it may be used from:
        https://cloud.google.com/iam/docs/workforce-log-in-gcloud
        """
        document = {
            "type": "external_account_authorized_user",
            "client_id": "gcloud",
            "client_secret": "none",
            "refresh_token": f"refresh:{email}",
            "token_url": f"{self._url}/token",
        }
        if quota_project:
            document["quota_project_id"] = quota_project
        path.write_text(json.dumps(document))
        return path

    def new_token(self, email: str) -> str:
        """Return a token of somebody's."""
        token = f"ya29.{secrets.token_urlsafe(16)}"
        with self._state.lock:
            self._state.tokens[token] = email
        return token

    def caller(self, authorization: str | None, quota_project: str | None, usual: str) -> Caller:
        """Return who makes a call.

        Args:
            authorization: The header of that name; without it, it is the project's owner, as
                clients that are asked in plain text send none.
            quota_project: The project that the call says it counts for.
            usual: The project it counts for otherwise, unless a service account has its own.

        Raises:
            GoogleRefusal: It is nobody.
        """
        if authorization is None:
            return Caller(email=OWNER, consumer=quota_project or usual)
        token = authorization.removeprefix("Bearer ")
        with self._state.lock:
            email = self._state.tokens.get(token)
            if email is None or email in self.refused:
                raise unauthenticated()
            account = self._state.accounts.get(email)
        own = account.project_id if account is not None else usual
        return Caller(email=email, consumer=quota_project or own)

    def token(self, request: Request) -> Response:
        """Give a token for a signed assertion, or for a login that gcloud has kept."""
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if form.get("grant_type") == GRANT:
            email = self._signer(form.get("assertion", ""))
        else:
            email = form.get("refresh_token", "").removeprefix("refresh:")
        if not email or email in self.refused:
            error = {"error": "invalid_grant", "error_description": "Invalid grant: not valid."}
            return _json(error, 400)
        token = self.new_token(email)
        return _json(
            {"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"}, 200
        )

    def token_info(self, request: Request) -> Response:
        """Say whose a token is."""
        form = {**request.query}
        form |= {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        email = self._state.tokens.get(form.get("access_token", ""))
        if email is None or email in self.refused:
            return _json({"error": "invalid_token", "error_description": "Invalid Value"}, 400)
        scopes = (
            "https://www.googleapis.com/auth/cloud-platform "
            "https://www.googleapis.com/auth/userinfo.email"
        )
        return _json(
            {"email": email, "email_verified": "true", "scope": scopes, "expires_in": "3599"}, 200
        )

    def _signer(self, assertion: str) -> str | None:
        """Return who signed an assertion; None where nobody did who has a key here."""
        try:
            signed, _, signature = assertion.rpartition(".")
            claims = json.loads(_decoded(signed.split(".")[1]))
            key = self._keys[claims["iss"]].public_key()
            key.verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), SHA256())
        except Exception:  # noqa: BLE001 - whatever is wrong with it
            return None
        return str(claims["iss"])


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _json(document: dict[str, Any], status: int) -> Response:
    return Response(
        status=status,
        headers={"Content-Type": "application/json"},
        body=json.dumps(document).encode(),
    )
