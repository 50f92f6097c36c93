"""Key pairs of callers, in a file as the AWS tools read it: a profile for each policy.

`AWS_SHARED_CREDENTIALS_FILE=that file AWS_PROFILE=buyer` is then whoever has the BuyerPolicy.
"""

import secrets
from collections.abc import Collection, Mapping
from configparser import ConfigParser
from configparser import Error as NotReadable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.template.intrinsics import ACCOUNT, REGION, TemplateError


@dataclass(frozen=True, slots=True)
class Pair:
    """A caller's access key."""

    profile: str
    policy: str
    """The logical id of what the caller is attached to."""
    access_key_id: str
    secret_access_key: str = field(repr=False)

    @property
    def identity(self) -> Mapping[str, Any]:
        """The caller, as API Gateway tells functions of an IAM user."""
        return {
            "accessKey": self.access_key_id,
            "accountId": ACCOUNT,
            "callerId": self.access_key_id,
            "cognitoIdentity": None,
            "principalOrgId": None,
            "userArn": f"arn:aws:iam::{ACCOUNT}:user/{self.profile}",
            "userId": self.access_key_id,
        }


def read(file: Path, policies: Collection[str]) -> Mapping[str, Pair]:
    """The pairs, by their access key id.

    Raises:
        TemplateError: there are none, or a profile is named like no policy.
    """
    profiles = ConfigParser(interpolation=None)
    try:
        profiles.read_string(file.read_text())
        pairs = [
            Pair(name, f"{name.capitalize()}Policy", facts["aws_access_key_id"], secret)
            for name, facts in profiles.items()
            if (secret := facts.get("aws_secret_access_key"))
        ]
    except (OSError, KeyError, NotReadable) as reason:
        raise TemplateError(f"{file}: no credentials: {reason}") from None
    for pair in pairs:
        if pair.policy not in policies:
            raise TemplateError(f"{file}: there is no {pair.policy} for the profile {pair.profile}")
    if not pairs:
        raise TemplateError(f"{file}: no credentials in it")
    return {pair.access_key_id: pair for pair in pairs}


def made(file: Path, policies: Collection[str]) -> Path:
    """The file, with a new key pair for each policy if it was not there; for nobody else's eyes."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text("\n".join(_profile(policy) for policy in policies))
    return file


def _profile(policy: str) -> str:
    return (
        f"[{policy.removesuffix('Policy').lower()}]\n"
        f"aws_access_key_id = AKIA{secrets.token_hex(8).upper()}\n"
        f"aws_secret_access_key = {secrets.token_urlsafe(30)}\n"
        f"region = {REGION}\n"
    )
