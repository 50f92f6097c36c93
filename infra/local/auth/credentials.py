"""Access keys of callers, in an AWS shared credentials file with one profile per policy.

`AWS_SHARED_CREDENTIALS_FILE=<file> AWS_PROFILE=buyer` selects the caller with BuyerPolicy.
"""

import secrets
from collections.abc import Collection, Mapping
from configparser import ConfigParser
from configparser import Error as ParseError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.template.intrinsics import ACCOUNT, REGION, TemplateError


@dataclass(frozen=True, slots=True)
class AccessKey:
    """The access key of one caller."""

    profile: str
    policy: str
    """Logical id of the caller's managed policy."""
    access_key_id: str
    secret_access_key: str = field(repr=False)

    @property
    def identity(self) -> Mapping[str, Any]:
        """`requestContext.authorizer.iam`, as API Gateway fills it for an IAM user."""
        return {
            "accessKey": self.access_key_id,
            "accountId": ACCOUNT,
            "callerId": self.access_key_id,
            "cognitoIdentity": None,
            "principalOrgId": None,
            "userArn": f"arn:aws:iam::{ACCOUNT}:user/{self.profile}",
            "userId": self.access_key_id,
        }


def read(file: Path, policies: Collection[str]) -> Mapping[str, AccessKey]:
    """The access keys, by access key id.

    Raises:
        TemplateError: the file has no access keys, or a profile matches no policy.
    """
    profiles = ConfigParser(interpolation=None)
    try:
        profiles.read_string(file.read_text())
        keys = [
            AccessKey(name, f"{name.capitalize()}Policy", section["aws_access_key_id"], secret)
            for name, section in profiles.items()
            if (secret := section.get("aws_secret_access_key"))
        ]
    except (OSError, KeyError, ParseError) as reason:
        raise TemplateError(f"{file}: cannot read credentials: {reason}") from None
    for key in keys:
        if key.policy not in policies:
            raise TemplateError(
                f"{file}: profile {key.profile} needs a policy {key.policy}, which does not exist"
            )
    if not keys:
        raise TemplateError(f"{file}: has no credentials")
    return {key.access_key_id: key for key in keys}


def ensure(file: Path, policies: Collection[str]) -> Path:
    """Create the file with one access key per policy, unless it exists. Mode 0600."""
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
