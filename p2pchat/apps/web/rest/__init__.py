"""REST: messages, conversations, people and groups, as resources; described true in `/openapi.json`."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from p2pchat.apps.web.rest import groups, messages, people
from p2pchat.apps.web.rest.calls import says_who

router = APIRouter(dependencies=[Depends(says_who)])
for part in (messages, people, groups):
    router.include_router(part.router)
