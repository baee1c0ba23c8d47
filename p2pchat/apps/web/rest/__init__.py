"""REST: everything asked for by plain HTTP, described true in `/openapi.json`.

Messages, conversations, people and groups as resources; signing up; and the paths for whoever operates the gateway.
One file a subject, `shapes.py` for what goes in and out. To be touched for another path, never for who may ask: that
is the doors' matter.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends

from p2pchat.apps.web.rest import groups, messages, operations, people, signup
from p2pchat.apps.web.rest.calls import says_who

router = APIRouter()
for open_to_all in (signup, operations):
    router.include_router(open_to_all.router)
for of_somebody in (messages, people, groups):
    router.include_router(of_somebody.router, dependencies=[Depends(says_who)])
