"""As whom a store is asked: what the environment, files and machines say, and who reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha1
from pathlib import Path

import botocore.credentials as credentials_module
import pytest
from object_store import Answer, Canned, Request

from data_pipeline.errors import StoreError
from data_pipeline.storage import object_requests
from data_pipeline.storage.object_uri import endpoint
from data_pipeline.storage.objects import ObjectPlace

#: What AWS answers to who asks for temporary credentials, by XML and by JSON.
ROLE = """<{0}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{0}Result><Credentials>
<AccessKeyId>ROLE</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></{0}Result></{0}Response>"""
MACHINE = {
    "Code": "Success",
    "AccessKeyId": "MACHINE",
    "SecretAccessKey": "s",
    "Token": "t",
    "Expiration": "2099-01-01T00:00:00Z",
}
SSO = {
    "accessKeyId": "SSO",
    "secretAccessKey": "s",
    "sessionToken": "t",
    "expiration": 4_000_000_000_000,
}


def _answer(request: Request) -> Answer:
    method, path, _, body = request
    if method == "POST":
        asked = body.decode()
        kind = "AssumeRoleWithWebIdentity" if "WebIdentity" in asked else "AssumeRole"
        assert f"Action={kind}&" in asked
        return 200, ROLE.format(kind), {"Content-Type": "text/xml"}
    if path.startswith("/federation/credentials"):
        return 200, json.dumps({"roleCredentials": SSO}), {"Content-Type": "application/json"}
    if path == "/latest/api/token":
        return 200, "token", {}
    if path.startswith("/latest/meta-data"):
        return 200, "a-role" if path.endswith("/") else json.dumps(MACHINE), {}
    if path == "/container":
        return 200, json.dumps({**MACHINE, "AccessKeyId": "CONTAINER"}), {}
    return 200, "", {"ETag": '"1"'}


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Canned]:
    """A store, and whatever of AWS there is beside it; nothing is known of who asks."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "CA_BUNDLE"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("METADIST_STORE_WAIT_S", "5")
    with Canned(_answer) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        for name in ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_METADATA_ENDPOINT"):
            monkeypatch.setenv(name, server.endpoint)
        yield server


def _asks_as(cloud: Canned, region: str = "us-east-1") -> str:
    """Whose signature an upload carries; also where the bucket is taken to be."""
    ObjectPlace(endpoint(), "shelf", "x").put(b"1")
    method, path, headers, _ = cloud.asked[-1]
    assert (method, path) == ("PUT", "/shelf/x")
    user, _, where, *_ = headers["Authorization"].partition("Credential=")[2].split("/")
    assert where == "20" or where == region or region in headers["Authorization"]
    return user + ("+token" if headers["x-amz-security-token"] == "t" else "")


def test_the_environment(cloud: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert _asks_as(cloud, "/eu-west-1/") == "KEY"
    monkeypatch.setenv("AWS_REGION", "eu-west-2")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    assert _asks_as(cloud, "/eu-west-2/") == "KEY+token"


KEYS = "aws_access_key_id = {}\naws_secret_access_key = s\n"
PROFILES = {
    "plain": ("[plain]\n" + KEYS.format("FILE"), "[profile plain]\nregion = eu-west-3\n", "FILE"),
    "role": (
        "[base]\n" + KEYS.format("BASE"),
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/a-role\nsource_profile = base\n"
        "region = eu-west-3\n",
        "ROLE+token",
    ),
    "process": (
        "",
        "[profile process]\ncredential_process = {python} {script} {count} 9999\n"
        "region = eu-west-3\n",
        "PROCESS1+token",
    ),
    "sso": (
        "",
        "[profile sso]\nsso_start_url = https://sso.example\nsso_region = eu-west-3\n"
        "sso_account_id = 123456789012\nsso_role_name = a-role\nregion = eu-west-3\n",
        "SSO+token",
    ),
}


@pytest.mark.parametrize("profile", list(PROFILES))
def test_profiles(
    profile: str, cloud: Canned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials, config, expected = PROFILES[profile]
    script, count = tmp_path / "process.py", tmp_path / "count"
    script.write_text(PROCESS)
    (tmp_path / "credentials").write_text(credentials)
    (tmp_path / "config").write_text(
        config.format(python=sys.executable, script=script, count=count)
    )
    cache = tmp_path / (sha1(b"https://sso.example").hexdigest() + ".json")
    monkeypatch.setattr(credentials_module.SSOProvider, "_SSO_TOKEN_CACHE_DIR", str(tmp_path))
    token = {"accessToken": "t", "expiresAt": "2099-01-01T00:00:00Z", "region": "eu-west-3"}
    cache.write_text(json.dumps({**token, "startUrl": "https://sso.example"}))
    monkeypatch.setenv("AWS_PROFILE", profile)
    assert _asks_as(cloud, "/eu-west-3/") == expected


PROCESS = """
import datetime, json, pathlib, sys
count = pathlib.Path(sys.argv[1])
number = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(number))
soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=int(sys.argv[2]))
print(json.dumps({"Version": 1, "AccessKeyId": f"PROCESS{number}", "SecretAccessKey": "s",
                  "SessionToken": "t", "Expiration": soon.isoformat()}))
"""


def test_credentials_that_expire_are_got_anew(
    cloud: Canned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, count = tmp_path / "process.py", tmp_path / "count"
    script.write_text(PROCESS)
    process = f"credential_process = {sys.executable} {script} {count} 5"
    (tmp_path / "config").write_text(f"[default]\n{process}\n")
    assert len({_asks_as(cloud) for _ in range(3)}) == 3  # they last for seconds


@pytest.mark.parametrize("boto3", [True, False])
def test_what_a_machine_says(
    cloud: Canned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, boto3: bool
) -> None:
    if not boto3:
        _without_boto3(monkeypatch)
    assert _asks_as(cloud) == "MACHINE+token"
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{cloud.endpoint}/container")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    (tmp_path / "token").write_text("token")
    assert _asks_as(cloud) == "CONTAINER+token"
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/a-role")
    if boto3:  # the library alone asks for it by https only
        assert _asks_as(cloud) == "ROLE+token"


def _without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "obstore.auth.boto3", raising=False)


def test_profiles_need_boto3(cloud: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_boto3(monkeypatch)
    monkeypatch.setenv("AWS_PROFILE", "work")
    with pytest.raises(StoreError, match=r"AWS_PROFILE=work: .*pip install 'metadist\[s3\]'"):
        _asks_as(cloud)


@pytest.mark.parametrize("boto3", [True, False])
def test_nobody_says_who_asks(cloud: Canned, monkeypatch: pytest.MonkeyPatch, boto3: bool) -> None:
    if not boto3:
        _without_boto3(monkeypatch)
    for name in ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_METADATA_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    object_requests._stores.clear()
    with pytest.raises(StoreError, match=r"no credentials .*AWS_ACCESS_KEY_ID.*metadist\[s3\]"):
        _asks_as(cloud)


def test_a_profile_that_is_not_there(cloud: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match=r"no credentials \(.*nobody.*could not be found"):
        _asks_as(cloud)


def test_authorities_of_a_company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2")
    curve = ("-pkeyopt", "ec_paramgen_curve:prime256v1")
    names = (
        "-subj",
        "/CN=store",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    )
    both = ("-keyout", tmp_path / "key", "-out", tmp_path / "authority.pem")
    subprocess.run([*request, *curve, *names, *both], check=True, capture_output=True)
    pair = tmp_path / "pair.pem"
    pair.write_text((tmp_path / "authority.pem").read_text() + (tmp_path / "key").read_text())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("METADIST_STORE_WAIT_S", "5")
    with Canned(_answer, tls=pair) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        with pytest.raises(StoreError, match=r"\(UnknownIssuer\).*AWS_CA_BUNDLE"):
            _asks_as(server)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "none.pem"))
        with pytest.raises(StoreError, match=r"AWS_CA_BUNDLE: .*none\.pem"):
            _asks_as(server)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "authority.pem"))
        assert _asks_as(server) == "KEY"
