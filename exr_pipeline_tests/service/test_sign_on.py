"""Single sign-on: a provider in a process of its own, browsers with cookies, and the attacks on both."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import uvicorn
from joserfc import jwt
from joserfc.jwk import RSAKey

from exr_pipeline.catalog import accounts
from exr_pipeline.catalog.database import CatalogDatabase
from exr_pipeline.catalog.migrate import migrate
from exr_pipeline.errors import MisconfiguredError
from exr_pipeline.service.app import build_app
from exr_pipeline.settings import Settings
from exr_pipeline.storage.objects import ObjectStorage
from exr_pipeline_tests.services.oidc_provider import OidcProvider, oidc_provider
from exr_pipeline_tests.services.processes import free_port, wait_until

ADMIN = "the-token-of-the-administrator"
AUDIENCE = "catalog-services"
LOGIN = "/v1/auth/oidc/login"


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    with oidc_provider(tmp_path_factory.mktemp("provider")) as found:
        yield found


@pytest.fixture(scope="module")
def storage() -> ObjectStorage:
    return ObjectStorage(Settings(_env_file=None))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CatalogDatabase]:
    found = CatalogDatabase(f"sqlite:///{tmp_path_factory.mktemp('catalog') / 'catalog.db'}")
    migrate(found)
    with found.transaction() as session:
        accounts.ensure_admin(session, ADMIN)
    yield found
    found.close()


@contextmanager
def node(
    provider: OidcProvider, database: CatalogDatabase, storage: ObjectStorage, **settings: Any
) -> Iterator[httpx.Client]:
    """A service that is registered at the provider, and the administrator who asks it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        if "oidc_client_id" not in settings:
            redirect = f"{settings.get('service_url', url).rstrip('/')}/v1/auth/oidc/callback"
            settings["oidc_client_id"], settings["oidc_client_secret"] = provider.register(redirect)
        wanted = {"oidc_issuer": provider.issuer, **settings}
        app = build_app(database, storage, settings=Settings(_env_file=None, **wanted))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            wait_until(lambda: server.started, "the service is up")
            with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {ADMIN}"}, timeout=60) as admin:
                yield admin
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def admin(provider: OidcProvider, database: CatalogDatabase, storage: ObjectStorage) -> Iterator[httpx.Client]:
    rules = "groups:leads=admin,groups:artists=editor@show-a,groups:guests=viewer@show-a,team.name:lab=viewer@show-b"
    with node(provider, database, storage, oidc_roles=rules, oidc_audience=AUDIENCE) as found:
        for name in ("show-a", "show-b"):
            found.post("/v1/projects", json={"name": name})
        yield found


@contextmanager
def browser_of(admin: httpx.Client) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=admin.base_url, timeout=60) as found:
        yield found


def come_back(provider: OidcProvider, browser: httpx.Client, subject: str, *, after: str = "/") -> httpx.Response:
    """Log in at the provider, and go back to the service."""
    begun = browser.get(LOGIN, params={"next": after})
    assert begun.status_code == 303, begun.text
    return browser.get(provider.log_in(begun.headers["location"], subject))


def own_page(client: httpx.Client) -> dict[str, str]:
    return {"Origin": str(client.base_url).rstrip("/")}


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json().get("detail", "")


def test_whoever_logs_in_at_the_provider_has_a_session_and_no_role(provider: OidcProvider, admin: httpx.Client) -> None:
    provider.add_user("1", preferred_username="ann")
    with browser_of(admin) as browser:
        assert browser.get("/v1/auth/methods").json() == {"password": True, "single_sign_on": LOGIN}
        answer = come_back(provider, browser, "1", after="/v1/auth/me?x=1")
        assert (answer.status_code, answer.headers["location"]) == (303, "/v1/auth/me?x=1")
        assert browser.get("/v1/auth/me").json() == {"name": "ann", "roles": {}, "scopes": None}
        assert browser.get("/v1/projects").status_code == 403
        checked = browser.get("/v1/auth/check")
        assert (checked.status_code, checked.headers["x-forwarded-user"]) == (204, "ann")
        assert browser.get("/v1/auth/check?permission=runs:manage").status_code == 403
        # The second login is the same account, whatever the provider calls it now.
        provider.add_user("1", preferred_username="ann.b")
        come_back(provider, browser, "1")
        assert browser.get("/v1/auth/me").json()["name"] == "ann"


def test_a_session_is_out_of_reach_of_scripts_and_of_other_sites_and_is_not_the_one_from_before_the_login(
    provider: OidcProvider, admin: httpx.Client
) -> None:
    with browser_of(admin) as browser:
        browser.cookies.set("exr_session", "planted-by-somebody-else", domain="127.0.0.1", path="/")
        answer = come_back(provider, browser, "fixed")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("exr_session=exr_")
        assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
        first = browser.cookies["exr_session"]
        come_back(provider, browser, "fixed")
        assert browser.cookies["exr_session"] != first
    # The one from before the second login has ended.
    assert httpx.get(f"{admin.base_url}/v1/auth/me", cookies={"exr_session": first}).status_code == 401


def test_claims_give_roles_at_each_login_and_take_them_away(provider: OidcProvider, admin: httpx.Client) -> None:
    projects = {each["name"]: each["id"] for each in admin.get("/v1/projects").json()}
    with browser_of(admin) as browser:
        provider.add_user("2", preferred_username="ben", groups=["artists", "guests"], team={"name": "lab"})
        come_back(provider, browser, "2")
        roles = {projects["show-a"]: "editor", projects["show-b"]: "viewer"}
        assert browser.get("/v1/auth/me").json()["roles"] == roles
        asset = {"project": "show-a", "name": "x", "kind": "image"}
        assert browser.post("/v1/assets", json=asset, headers=own_page(admin)).status_code == 201
        provider.add_user("2", preferred_username="ben", groups=["guests"])
        come_back(provider, browser, "2")
        assert browser.get("/v1/auth/me").json()["roles"] == {projects["show-a"]: "viewer"}
        topics = [(each["topic"], each["payload"].get("role")) for each in admin.get("/v1/events?limit=500").json()]
        assert topics.count(("account.role_set", "editor")) == topics.count(("account.role_set", "viewer")) - 1 == 1


def test_a_name_at_the_provider_is_never_an_account_that_was_there_before(
    provider: OidcProvider, admin: httpx.Client
) -> None:
    provider.add_user("3", preferred_username="admin")
    provider.add_user("4", email="admin", email_verified=False)
    for subject, name in (("3", "admin (3)"), ("4", "4")):
        with browser_of(admin) as browser:
            come_back(provider, browser, subject)
            assert browser.get("/v1/auth/me").json() == {"name": name, "roles": {}, "scopes": None}


def test_a_cookie_alone_changes_nothing(provider: OidcProvider, admin: httpx.Client) -> None:
    provider.add_user("5", preferred_username="eve", groups=["leads"])
    with browser_of(admin) as browser:
        come_back(provider, browser, "5")
        body = {"name": "made-by-a-page"}
        foreign: list[dict[str, str]] = [
            {},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "none"},
        ]
        for headers in foreign:
            assert browser.post("/v1/projects", json=body, headers=headers).status_code == 403, headers
            assert browser.post("/v1/auth/logout", headers=headers).status_code == 403, headers
        # Nor does it read anything for a page of another site, or let a proxy do something for one.
        assert browser.get("/v1/auth/me", headers={"Origin": "https://evil.example"}).status_code == 403
        assert browser.get("/v1/auth/check").status_code == 204
        assert browser.get("/v1/auth/check", headers={"X-Forwarded-Method": "POST"}).status_code == 403
        # A password that the browser sends by itself is no token.
        by_itself = {"X-Forwarded-Method": "POST", "Authorization": "Basic YTpi"}
        assert browser.get("/v1/auth/check", headers=by_itself).status_code == 403
        allowed = {"X-Forwarded-Method": "POST", **own_page(admin)}
        assert browser.get("/v1/auth/check?permission=runs:manage", headers=allowed).status_code == 204
        assert browser.post("/v1/projects", json=body, headers={"Sec-Fetch-Site": "same-origin"}).status_code == 201
        assert browser.post("/v1/projects", json={"name": "b"}, headers=own_page(admin)).status_code == 201


def test_logging_out_ends_the_session_everywhere(
    provider: OidcProvider, database: CatalogDatabase, storage: ObjectStorage, admin: httpx.Client
) -> None:
    with browser_of(admin) as browser, node(provider, database, storage) as other:
        come_back(provider, browser, "6")
        cookies = {"exr_session": browser.cookies["exr_session"]}
        # It is a session at any node.
        assert httpx.get(f"{other.base_url}/v1/auth/me", cookies=cookies).status_code == 200
        assert browser.post("/v1/auth/logout", headers=own_page(admin)).status_code == 204
        assert "exr_session" not in browser.cookies
        for url in (admin.base_url, other.base_url):
            assert httpx.get(f"{url}/v1/auth/me", cookies=cookies).status_code == 401
        assert admin.post("/v1/auth/logout").status_code == 422
        assert admin.get("/v1/auth/me").status_code == 200


def test_a_disabled_account_has_no_session_and_gets_no_other(provider: OidcProvider, admin: httpx.Client) -> None:
    provider.add_user("7", preferred_username="gus")
    with browser_of(admin) as browser:
        come_back(provider, browser, "7")
        assert admin.post("/v1/accounts/gus/disable").status_code == 204
        assert browser.get("/v1/auth/me").status_code == 401
        assert problem_of(come_back(provider, browser, "7")) == (401, "login: the account is disabled")


def test_a_login_ends_once_and_in_the_browser_that_began_it(provider: OidcProvider, admin: httpx.Client) -> None:
    too_late = (401, "login: it took too long, or was begun in another browser: begin again")
    with browser_of(admin) as browser, browser_of(admin) as victim:
        back = provider.log_in(browser.get(LOGIN).headers["location"], "8")
        assert problem_of(victim.get(back)) == too_late
        victim.get(LOGIN)
        assert problem_of(victim.get(back)) == too_late
        assert browser.get(back).status_code == 303
        assert problem_of(browser.get(back)) == too_late
        assert problem_of(browser.get("/v1/auth/oidc/callback?code=x&state=made-up")) == too_late
        assert "exr_session" not in victim.cookies


def test_logins_begun_in_two_tabs_both_end(provider: OidcProvider, admin: httpx.Client) -> None:
    with browser_of(admin) as browser:
        begun = [browser.get(LOGIN).headers["location"] for _ in range(2)]
        for address in begun:
            assert browser.get(provider.log_in(address, "tabs")).status_code == 303


def test_a_login_is_asked_for_with_a_challenge_that_only_this_service_can_meet(
    provider: OidcProvider, admin: httpx.Client
) -> None:
    with browser_of(admin) as browser:
        begun = urlsplit(browser.get(LOGIN).headers["location"])
        query = parse_qs(begun.query)
        assert (query["code_challenge_method"], query["response_type"]) == (["S256"], ["code"])
        assert {"state", "nonce", "code_challenge"} <= query.keys()
        # A code that was given for another challenge, as a stolen one is: the provider refuses it.
        stolen = provider.log_in(
            begun._replace(query=begun.query.replace("code_challenge=", "code_challenge=x")).geturl(), "9"
        )
        assert problem_of(browser.get(stolen)) == (401, "login: the provider refused it: invalid_grant")


LIES: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": "replayed"},
    "no nonce": {"nonce": None},
    "another audience": {"aud": "another-client"},
    "another issuer": {"iss": "https://evil.example"},
    "over": {"exp": 1},
    "no end": {"exp": None},
    "nobody": {"sub": None},
    "an empty subject": {"sub": ""},
    "a subject that is none": {"sub": 7},
    "no signature": {"algorithm": "none"},
    "a signature that the client could make": {"algorithm": "HS256"},
}


@pytest.mark.parametrize("lie", LIES)
def test_a_proof_that_does_not_hold_begins_no_session(lie: str, provider: OidcProvider, admin: httpx.Client) -> None:
    with browser_of(admin) as browser:
        provider.forge(**LIES[lie])
        answer = come_back(provider, browser, "10")
        assert problem_of(answer)[0] == 401, answer.text
        assert "exr_session" not in browser.cookies


def test_a_proof_for_another_client_that_names_this_one_as_its_party_begins_no_session(
    provider: OidcProvider, admin: httpx.Client
) -> None:
    with browser_of(admin) as browser:
        begun = browser.get(LOGIN).headers["location"]
        (client_id,) = parse_qs(urlsplit(begun).query)["client_id"]
        provider.forge(aud="another-client", azp=client_id)
        assert problem_of(browser.get(provider.log_in(begun, "11")))[0] == 401


def test_a_login_that_is_refused_says_so_without_obeying_its_text(provider: OidcProvider, admin: httpx.Client) -> None:
    with browser_of(admin) as browser:
        back = provider.refuse(browser.get(LOGIN).headers["location"])
        state = parse_qs(urlsplit(browser.get(LOGIN).headers["location"]).query)["state"][0]
        assert "error=access_denied" in back
        answer = browser.get("/v1/auth/oidc/callback", params={"error": "no\x1b[31m\nthanks", "state": state})
        assert problem_of(answer) == (401, "login: the provider refused it: no\\x1b[31m thanks")


@pytest.mark.parametrize(
    "place",
    [
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "evil.example",
        "/\t/evil.example",
        "",
        "javascript:x",
    ],
)
def test_a_login_leads_to_no_other_site(place: str, admin: httpx.Client) -> None:
    with browser_of(admin) as browser:
        assert problem_of(browser.get(LOGIN, params={"next": place})) == (422, "next: it is not a path of this service")


def test_tokens_of_services_are_those_of_the_provider_for_this_audience(
    provider: OidcProvider, admin: httpx.Client
) -> None:
    def ask(token: str, path: str = "/v1/auth/me") -> httpx.Response:
        return httpx.get(f"{admin.base_url}{path}", headers={"Authorization": f"Bearer {token}"})

    token = provider.token(sub="farm", client_id="render-farm", aud=[AUDIENCE, "other"], groups=["guests"])
    answer = ask(token)
    assert (answer.status_code, answer.json()["name"]) == (200, "render-farm")
    assert list(answer.json()["roles"].values()) == ["viewer"]
    assert ask(token, "/v1/projects").status_code == 200
    # Its roles are in the token, and nowhere else.
    other = ask(provider.token(sub="farm", client_id="render-farm", aud=AUDIENCE)).json()
    assert (other["name"], other["roles"]) == ("render-farm", {})
    accounts_there = {each["name"]: each["kind"] for each in admin.get("/v1/accounts").json()}
    assert accounts_there["render-farm"] == "service"
    for wrong in (
        provider.token(sub="farm", aud="another"),
        provider.token(sub="farm"),
        provider.token(sub="farm", aud=AUDIENCE, exp=1),
        provider.token(sub="farm", aud=AUDIENCE, exp=None),
        provider.token(sub="farm", aud=AUDIENCE, iss="https://evil.example"),
        provider.token(aud=AUDIENCE),
        provider.token(sub="farm", aud=AUDIENCE, key="somebody else's"),
        token[:-4] + "AAAA",
        "a.b.c",
    ):
        assert problem_of(ask(wrong))[0] == 401, wrong
    admin.post("/v1/accounts/render-farm/disable")
    assert ask(token).status_code == 401


def test_tokens_with_keys_that_nobody_knows_have_the_provider_asked_once(
    provider: OidcProvider, database: CatalogDatabase, storage: ObjectStorage
) -> None:
    def asked() -> int:
        return provider.service.log.read_text().count("/jwks")

    key = RSAKey.generate_key(2048)
    claims = {"iss": provider.issuer, "sub": "farm", "aud": AUDIENCE, "exp": 2**40}
    with node(provider, database, storage, oidc_audience=AUDIENCE) as found:
        before = asked()
        for number in range(5):
            headers = {"Authorization": f"Bearer {jwt.encode({'alg': 'RS256', 'kid': str(number)}, claims, key)}"}
            assert httpx.get(f"{found.base_url}/v1/auth/me", headers=headers).status_code == 401
        # The keys themselves, and once more in case that they are new.
        assert asked() - before == 2


def test_without_an_audience_tokens_of_the_provider_are_worth_nothing(
    provider: OidcProvider, database: CatalogDatabase, storage: ObjectStorage
) -> None:
    with node(provider, database, storage) as found:
        token = provider.token(sub="farm", aud="anything")
        answer = httpx.get(f"{found.base_url}/v1/auth/me", headers={"Authorization": f"Bearer {token}"})
        assert problem_of(answer) == (401, "token: it is not valid")


def test_a_provider_that_is_away_is_worth_another_try_and_does_not_matter_to_those_who_are_in(
    database: CatalogDatabase, storage: ObjectStorage, provider: OidcProvider
) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    with node(provider, database, storage, oidc_issuer=gone, oidc_client_id="x") as found:
        assert found.get("/v1/auth/me").status_code == 200
        assert found.get(LOGIN, headers={"Authorization": ""}).status_code == 503


def test_a_provider_that_is_somebody_else_is_not_believed(
    database: CatalogDatabase, storage: ObjectStorage, provider: OidcProvider
) -> None:
    with node(provider, database, storage, oidc_issuer=f"{provider.issuer}/", oidc_client_id="x") as found:
        assert found.get(LOGIN).status_code == 500


def test_behind_https_cookies_are_of_this_host_alone_and_the_provider_is_told_the_address_of_the_setting(
    provider: OidcProvider, database: CatalogDatabase, storage: ObjectStorage
) -> None:
    address = "https://catalog.studio.test"
    with node(provider, database, storage, service_url=f"{address}/") as found:
        begun = found.get(LOGIN, headers={"Host": "evil.example"})
        assert parse_qs(urlsplit(begun.headers["location"]).query)["redirect_uri"] == [
            f"{address}/v1/auth/oidc/callback"
        ]
        name, _, rest = begun.headers["set-cookie"].partition("=")
        secret = rest.partition(";")[0]
        assert name == "__Host-exr_sign_in"
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=lax"} <= set(rest.split("; "))
        assert "domain" not in rest.lower()
        back = urlsplit(provider.log_in(begun.headers["location"], "12"))
        ended = httpx.get(
            f"{found.base_url}{back.path}?{back.query}", headers={"Cookie": f"__Host-exr_sign_in={secret}"}
        )
        assert ended.status_code == 303, ended.text
        session = ended.headers["set-cookie"].partition(";")[0]
        assert session.startswith("__Host-exr_session=")
        url = f"{found.base_url}/v1/auth/me"
        assert httpx.get(url, headers={"Cookie": session}).status_code == 200
        # A name that other sites of the domain could set is not looked at.
        assert httpx.get(url, headers={"Cookie": session.removeprefix("__Host-")}).status_code == 401
        out = f"{found.base_url}/v1/auth/logout"
        assert httpx.post(out, headers={"Cookie": session, "Origin": str(found.base_url)}).status_code == 403
        assert httpx.post(out, headers={"Cookie": session, "Origin": address}).status_code == 204


def test_a_page_logs_in_with_a_password_and_its_scripts_never_see_the_token(admin: httpx.Client) -> None:
    admin.post("/v1/accounts", json={"name": "kim", "password": "a long enough password"})
    body = {"name": "kim", "password": "a long enough password", "session": True}
    with browser_of(admin) as browser:
        assert browser.post("/v1/auth/login", json=body).status_code == 403
        answer = browser.post("/v1/auth/login", json=body, headers=own_page(admin))
        assert (answer.status_code, answer.json()["label"]) == (201, "browser")
        assert browser.cookies["exr_session"] not in answer.text
        assert browser.get("/v1/auth/me").json()["name"] == "kim"


def test_beyond_this_machine_browsers_log_in_only_where_the_address_is_set(admin: httpx.Client) -> None:
    with browser_of(admin) as browser:
        answer = browser.get(LOGIN, headers={"Host": "catalog.studio.test"})
        assert (answer.status_code, "set-cookie" in answer.headers) == (500, False)


GOOD = {"oidc_issuer": "https://id.studio.test", "oidc_client_id": "catalog"}
MISTAKES: dict[str, tuple[dict[str, str], str]] = {
    "unencrypted": ({**GOOD, "oidc_issuer": "http://id.studio.test"}, "EXR_PIPELINE_OIDC_ISSUER"),
    "no client": ({"oidc_issuer": "https://id.studio.test"}, "EXR_PIPELINE_OIDC_CLIENT_ID"),
    "no openid": ({**GOOD, "oidc_scopes": "profile"}, "EXR_PIPELINE_OIDC_SCOPES"),
    "proofs as tokens": ({**GOOD, "oidc_audience": "catalog"}, "EXR_PIPELINE_OIDC_AUDIENCE"),
    "a role that is none": ({**GOOD, "oidc_roles": "groups:x=king"}, "EXR_PIPELINE_OIDC_ROLES.*king"),
    "a rule that is none": ({**GOOD, "oidc_roles": "x"}, "EXR_PIPELINE_OIDC_ROLES"),
    "an address that is none": ({"service_url": "catalog"}, "EXR_PIPELINE_SERVICE_URL"),
    "an address with a path": ({"service_url": "https://studio.test/catalog"}, "EXR_PIPELINE_SERVICE_URL"),
    "an address without TLS": ({"service_url": "http://studio.test"}, "EXR_PIPELINE_SERVICE_URL.*https"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_settings_that_do_not_fit_are_refused_at_the_start_by_their_name(
    mistake: str, database: CatalogDatabase, storage: ObjectStorage
) -> None:
    settings, expected = MISTAKES[mistake]
    with pytest.raises(MisconfiguredError, match=expected):
        build_app(database, storage, settings=Settings(_env_file=None, **settings))  # type: ignore[arg-type]


def test_without_a_provider_there_is_no_single_sign_on(database: CatalogDatabase, storage: ObjectStorage) -> None:
    app = build_app(database, storage, settings=Settings(_env_file=None))
    assert app.state.provider is None
