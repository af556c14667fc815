"""GET /docs: one page that loads nothing from anywhere else, because what it loads would get the API key."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

router = APIRouter()

PAGE: Final = (files("service.http.openapi") / "page.html").read_text("utf-8")


def _digest(tag: str) -> str:
    """What a policy calls the page's one script, or its one style sheet."""
    (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY: Final = (
    f"default-src 'none'; script-src {_digest('script')}; style-src {_digest('style')}; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The script and the style of the page, requests to this service, and nothing else."""


@router.get("/docs", include_in_schema=False)
async def get_docs(request: Request) -> Response:
    """The HTTP surface for people; made of /openapi.json in the browser."""
    return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"})
