"""What schemathesis does beyond what it brings; it loads this by itself."""

import os
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext, Response

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Where keys are required, none is no alternative: then ``ignored_auth`` holds for every route that may ask."""
    if os.environ["KEYS"] == "required":
        for methods in raw_schema["paths"].values():
            for operation in methods.values():
                if operation.get("security"):
                    operation["security"] = [each for each in operation["security"] if each]


@schemathesis.check
def what_the_description_allows_is_not_malformed(ctx: CheckContext, response: Response, case: Case) -> None:
    """422 may say what no schema can, but then it has the code of that, or comes from a rule that we wrote."""
    meant_well = case.meta is not None and case.meta.generation.mode.is_positive
    if meant_well and response.status_code == 422:
        told = response.json()
        if told.get("code") in {None, "REQUEST_INVALID"}:
            unsaid = [each for each in told["problems"] if not each["message"].startswith("Value error, ")]
            assert not unsaid, "the description allows this request"
