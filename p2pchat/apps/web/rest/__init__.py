"""REST: everything asked for by plain HTTP, described true in `/openapi.json`.

Messages, conversations, people and groups as resources; signing up; and the paths for whoever operates the gateway.
One file a subject, `schemas.py` for what goes in and out. To be touched for another path, never for who may ask: that
is the doors' matter.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends

from p2pchat.apps.web.rest.calls import says_who
from p2pchat.apps.web.rest.groups import router as groups_router
from p2pchat.apps.web.rest.operations import router as operations_router
from p2pchat.apps.web.rest.people import router as people_router
from p2pchat.apps.web.rest.signup import router as signup_router
from p2pchat.web.rest import messages_router

router = APIRouter()
for open_to_all in (signup_router, operations_router):
    router.include_router(open_to_all)
for of_somebody in (messages_router, people_router, groups_router):
    router.include_router(of_somebody, dependencies=[Depends(says_who)])
