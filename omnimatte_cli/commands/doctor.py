"""`omnimatte doctor`: is everything there that the tool needs, and does it work?"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from omnimatte_cli.commands.common import friendly
from omnimatte_cli.commands.options import takes
from omnimatte_cli.settings import Settings

SIGNS = {True: "ok", False: "WRONG", None: "-"}


@friendly
@takes(shared=(Settings, ("ffmpeg",)))
def doctor(
    shared: dict[str, Any],
    quick: Annotated[bool, typer.Option("--quick", help="Leave the self-test out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all findings as JSON.")] = False,
) -> None:
    """Check versions, devices, ffmpeg, weights and disk, and decompose a tiny clip."""
    from omnimatte_cli.doctor import examine

    findings = []
    for finding in examine(shared["ffmpeg"], self_test=not quick):
        findings.append(finding)
        if not as_json:
            print(f"{SIGNS[finding.good]:>5}  {finding.what}: {finding.text}", flush=True)
    if as_json:
        facts = [{"what": f.what, "good": f.good, "text": f.text} for f in findings]
        print(json.dumps(facts, indent=1))
    if any(finding.good is False for finding in findings):
        raise typer.Exit(1)
