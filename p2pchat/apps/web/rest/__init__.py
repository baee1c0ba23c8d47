"""REST: messages, conversations, people, as resources."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
