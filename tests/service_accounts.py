"""Keys of service accounts that are whole, and nobody's."""

from __future__ import annotations

ACCOUNT = "runner@my-project-1.iam.gserviceaccount.com"


def service_account_info() -> dict[str, str]:
    """Return the key of a service account that nobody has."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "project_id": "my-project-1",
        "private_key": private.decode(),
        "client_email": ACCOUNT,
        "token_uri": "https://oauth2.googleapis.com/token",
    }
