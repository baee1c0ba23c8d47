"""`/healthz`, `/readyz`: whether this gateway works, and whether it should be sent callers now."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(tags=["operations"])
