"""Is the bucket there, is it private, and does it rid itself of uploads that nobody finished?"""

import json
import logging
from typing import Any

from botocore.exceptions import ClientError

from app.storage.s3_errors import code_of

log = logging.getLogger(__name__)

RULE = "volcal-unfinished-uploads"


def prepare_bucket(client: Any, bucket: str, *, region: str, unfinished_days: int) -> None:
    """Make a bucket if it is absent, and see to it that unfinished uploads are deleted; may be repeated.

    Args:
        client: A client of boto3.
        bucket: Its name.
        region: Where to make it.
        unfinished_days: After how many days an upload that was never finished is deleted.

    Raises:
        ClientError: If the bucket cannot be used.
    """
    _make(client, bucket, region)
    try:
        _tidy_itself(client, bucket, unfinished_days)
    except ClientError as error:
        # MinIO knows no such rule: it deletes unfinished uploads by itself, after a day.
        log.info("the store takes no rule about unfinished uploads (%s), so it must see to them", code_of(error))
    _warn_if_public(client, bucket)


def _make(client: Any, bucket: str, region: str) -> None:
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if code_of(error) != "404":
            client.list_objects_v2(Bucket=bucket, MaxKeys=1)  # whose error has a code that says more
            raise
    else:
        return
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        client.create_bucket(Bucket=bucket, **where)
        log.info("made the bucket %s", bucket)
    except ClientError as error:
        if code_of(error) not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists", "OperationAborted"}:
            raise
        client.list_objects_v2(Bucket=bucket, MaxKeys=1)  # somebody else was faster: is it ours?


def _tidy_itself(client: Any, bucket: str, days: int) -> None:
    """Add our rule to those of the bucket, which may have some of its owner's."""
    ours = {
        "ID": RULE,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
    }
    try:
        rules = client.get_bucket_lifecycle_configuration(Bucket=bucket).get("Rules", [])
    except ClientError as error:
        if code_of(error) != "NoSuchLifecycleConfiguration":
            raise
        rules = []
    if ours not in rules:
        rules = [rule for rule in rules if rule.get("ID") != RULE] + [ours]
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})


def _warn_if_public(client: Any, bucket: str) -> None:
    # Asked for the policy's status, MinIO calls a bucket public only if everybody may write into it.
    try:
        statements = json.loads(client.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
    except (ClientError, ValueError, KeyError):
        return
    if any(one.get("Effect") == "Allow" and '"*"' in json.dumps(one.get("Principal")) for one in statements):
        log.warning("the bucket %s has a policy that lets everybody in; links need no such policy", bucket)
