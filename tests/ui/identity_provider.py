"""An identity provider of the test's own: OpenID Connect with PKCE, whose sign-in page asks for a name and believes it."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlparse

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "memberscope", "not-a-secret"


class IdentityProvider:
    """Serves on a port of this machine until it is closed."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, parameters={"kid": "one", "use": "sig", "alg": "RS256"})
        self.codes: dict[str, dict[str, str]] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def secrets(self, app: str) -> str:
        """Streamlit's secrets for an app at an address."""
        return (
            f'[auth]\nredirect_uri = "{app}/oauth2callback"\ncookie_secret = "{secrets.token_hex(32)}"\n'
            f'client_id = "{CLIENT}"\nclient_secret = "{SECRET}"\n'
            f'server_metadata_url = "{self.issuer}/.well-known/openid-configuration"\n'
        )

    def token_for(self, code: dict[str, str]) -> dict[str, Any]:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": hashlib.sha256(code["name"].encode()).hexdigest(),
            "aud": CLIENT,
            "iat": now,
            "exp": now + 600,
            "nonce": code.get("nonce", ""),
            "name": code["name"],
            "email": f"{code['name']}@example.org",
        }
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)
        return {"access_token": secrets.token_hex(8), "token_type": "Bearer", "expires_in": 600, "id_token": signed}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *told: Any) -> None: ...

            def _say(self, body: str, kind: str = "application/json", status: int = 200) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body.encode())

            def do_GET(self) -> None:
                address, issuer = urlparse(self.path), provider.issuer
                asked = {name: values[0] for name, values in parse_qs(address.query).items()}
                if address.path == "/.well-known/openid-configuration":
                    ends = {name: f"{issuer}/{name}" for name in ("authorize", "token", "keys")}
                    document = {
                        "issuer": issuer,
                        "authorization_endpoint": ends["authorize"],
                        "token_endpoint": ends["token"],
                        "jwks_uri": ends["keys"],
                        "response_types_supported": ["code"],
                        "subject_types_supported": ["public"],
                        "id_token_signing_alg_values_supported": ["RS256"],
                        "code_challenge_methods_supported": ["S256"],
                    }
                    self._say(json.dumps(document))
                elif address.path == "/keys":
                    self._say(json.dumps({"keys": [provider.key.as_dict(private=False)]}))
                elif address.path == "/authorize" and "name" not in asked:
                    kept = "".join(f'<input type="hidden" name="{n}" value="{v}">' for n, v in asked.items())
                    form = f'<form action="/authorize">{kept}<label>Name <input name="name"></label><button>Go</button></form>'
                    self._say(f"<!doctype html><title>Who are you?</title>{form}", "text/html")
                elif address.path == "/authorize":
                    code = secrets.token_hex(16)
                    provider.codes[code] = asked
                    self.send_response(302)
                    back = urlencode({"code": code, "state": asked["state"]})
                    self.send_header("Location", f"{asked['redirect_uri']}?{back}")
                    self.end_headers()
                else:
                    self._say("{}", status=404)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                asked = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
                code = provider.codes.pop(asked.get("code", ""), None)
                digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
                proof = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
                if code is None or code["code_challenge"] != proof:
                    self._say('{"error": "invalid_grant"}', status=400)
                else:
                    self._say(json.dumps(provider.token_for(code)))

        return Handler
