"""The page at `/`: static files, served as they are."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
