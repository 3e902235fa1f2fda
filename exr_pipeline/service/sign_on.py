"""Single sign-on: what a provider of OpenID Connect says about somebody, verified.

Belongs here: the protocol, which Authlib speaks. Not here: routes (`rest.sign_on`), accounts (`catalog.identities`).
Sources: OpenID Connect Core 1.0, RFC 7636 (PKCE), RFC 9068 (JWT access tokens).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from authlib.integrations.base_client import BaseApp, FrameworkIntegration, OAuth2Mixin, OAuthError, OpenIDMixin
from authlib.integrations.requests_client import OAuth2Session
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from requests import RequestException

from exr_pipeline.addresses import is_loopback, split_address
from exr_pipeline.catalog.errors import UnauthenticatedError
from exr_pipeline.catalog.identities import BegunSignIn, RoleRule, parse_role_rules
from exr_pipeline.errors import MisconfiguredError, RetryableError
from exr_pipeline.untrusted_text import visible_line

if TYPE_CHECKING:
    from exr_pipeline.settings import Settings

ISSUER: Final = "EXR_PIPELINE_OIDC_ISSUER"
_CONFIGURATION: Final = "/.well-known/openid-configuration"
_TIMEOUT_SECONDS: Final = 10
_LEEWAY_SECONDS: Final = 60
# How often tokens signed with unknown keys may have the provider asked for its keys.
_SECONDS_BETWEEN_KEYS: Final = 60
_LONGEST_SUBJECT: Final = 255
# Signatures that only the provider can make. A client's secret as a key, or none at all, is not among them.
_ALGORITHMS: Final = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
]


class _Session(OAuth2Session):  # type: ignore[misc]
    def request(self, *args: Any, **options: Any) -> Any:
        return super().request(*args, **{"timeout": _TIMEOUT_SECONDS, **options})


class _Client(OAuth2Mixin, OpenIDMixin, BaseApp):  # type: ignore[misc]
    client_cls = _Session

    def load_server_metadata(self) -> Any:
        """What the provider says about itself, limited to signatures that are worth something."""
        metadata = super().load_server_metadata()
        metadata["id_token_signing_alg_values_supported"] = _ALGORITHMS
        return metadata


class Provider:
    """A provider of identities. Thread-safe; it is first asked when somebody logs in.

    All methods raise `RetryableError` if it does not answer, and `MisconfiguredError` if it is not the issuer.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str | None,
        *,
        scopes: str,
        audience: str | None,
        rules: list[RoleRule],
    ) -> None:
        self.issuer, self.audience, self.rules = issuer, audience, rules
        self._client_id = client_id
        self._keys_asked_for = 0.0
        self._client = _Client(
            FrameworkIntegration("oidc"),
            client_id=client_id,
            client_secret=client_secret,
            server_metadata_url=issuer.rstrip("/") + _CONFIGURATION,
            client_kwargs={"scope": scopes, "code_challenge_method": "S256"},
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> Provider | None:
        """The provider that the settings name, if they do. Raises `MisconfiguredError` for settings that do not fit."""
        issuer, client_id = settings.oidc_issuer, settings.oidc_client_id
        if issuer is None:
            return None
        host = split_address(_origin(issuer))
        if host is None or (host.scheme != "https" and not is_loopback(host.hostname or "")):
            raise MisconfiguredError(ISSUER, "it is not a URL with https", "write it as the provider states it")
        if client_id is None:
            raise MisconfiguredError("EXR_PIPELINE_OIDC_CLIENT_ID", "it is not set", "register this service there")
        if "openid" not in settings.oidc_scopes.split():
            raise MisconfiguredError("EXR_PIPELINE_OIDC_SCOPES", "openid is not among them", "add it")
        if settings.oidc_audience == client_id:
            raise MisconfiguredError(
                "EXR_PIPELINE_OIDC_AUDIENCE",
                "it is the client's own name, so that proofs of a login would be tokens",
                "have the provider make access tokens for an audience of their own",
            )
        secret = settings.oidc_client_secret
        return cls(
            issuer,
            client_id,
            None if secret is None else secret.get_secret_value(),
            scopes=settings.oidc_scopes,
            audience=settings.oidc_audience,
            rules=parse_role_rules(settings.oidc_roles),
        )

    def begin(self, redirect_uri: str, destination: str) -> tuple[str, str, BegunSignIn]:
        """Where to send a browser to log in, the state that it comes back with, and what is to be kept until then."""
        with self._asking():
            found = self._client.create_authorization_url(redirect_uri)
        begun = BegunSignIn(found["nonce"], found["code_verifier"], redirect_uri, destination)
        return found["url"], found["state"], begun

    def finish(self, code: str, begun: BegunSignIn) -> Mapping[str, Any]:
        """The claims about whoever has logged in. Raises `UnauthenticatedError` if they do not hold."""
        with self._asking():
            token = self._client.fetch_access_token(
                redirect_uri=begun.redirect_uri, code=code, code_verifier=begun.code_verifier
            )
            # Authlib by itself would take the token of another client that names this one as its party.
            wanted = {"iss": {"value": self.issuer}, "aud": {"value": self._client_id}}
            claims = self._client.parse_id_token(token, begun.nonce, claims_options=wanted, leeway=_LEEWAY_SECONDS)
        return _checked(claims)

    def verify(self, token: str) -> Mapping[str, Any]:
        """The claims of an access token that a service bears. Raises `UnauthenticatedError` if it is not valid."""
        if self.audience is None:
            raise UnauthenticatedError("token", "it is not valid")
        with self._asking():
            try:
                decoded = jwt.decode(token, self._keys(), algorithms=_ALGORITHMS)
            except InvalidKeyIdError:
                decoded = jwt.decode(token, self._keys(again=True), algorithms=_ALGORITHMS)
            jwt.JWTClaimsRegistry(
                leeway=_LEEWAY_SECONDS,
                iss={"essential": True, "value": self.issuer},
                aud={"essential": True, "value": self.audience},
                exp={"essential": True},
            ).validate(decoded.claims)
        return _checked(decoded.claims)

    def _keys(self, *, again: bool = False) -> KeySet:
        now = time.monotonic()
        is_due = again and now - self._keys_asked_for > _SECONDS_BETWEEN_KEYS
        if is_due:
            self._keys_asked_for = now
        return KeySet.import_key_set(self._client.fetch_jwk_set(force=is_due))

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            stated = self._client.load_server_metadata().get("issuer")
            if stated != self.issuer:
                raise MisconfiguredError(ISSUER, f"the provider calls itself {stated!r}", "write exactly that")
            yield
        except OAuthError as error:
            raise UnauthenticatedError("login", f"the provider refused it: {visible_line(str(error.error))}") from error
        except RequestException as error:
            raise RetryableError(f"the provider of single sign-on does not answer: {type(error).__name__}") from error
        except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
            # Whatever its form, it does not prove who somebody is.
            raise UnauthenticatedError("token", "it is not valid") from error


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def _checked(claims: Mapping[str, Any] | None) -> Mapping[str, Any]:
    subject = None if claims is None else claims.get("sub")
    if claims is None or not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or "\0" in subject:
        raise UnauthenticatedError("token", "it does not say who it is about")
    return claims
