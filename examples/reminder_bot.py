"""A bot whose reminders survive its restarts: python examples/reminder_bot.py 8093 localhost:8080"""

import json
import time
from pathlib import Path

from p2pchat.bots import Bot, BotContext

bot = Bot("reminder", about="I remind you: remind MINUTES TEXT")


def path() -> Path:
    return (bot.peer.data or Path()) / "reminders.json"


def load() -> dict[str, dict]:  # by the id of the message that asked
    return json.loads(path().read_text("utf-8")) if path().exists() else {}


@bot.command
async def remind(ctx: BotContext, minutes: float, *, text: str) -> str:
    """Remind you of something in so many minutes."""
    due = {"at": time.time() + minutes * 60, "to": ctx.conversation.address, "text": text}
    path().write_text(json.dumps({**load(), ctx.message.id: due}), "utf-8")
    return f"in {minutes:g} minutes"


@bot.every(seconds=1)
async def send_due() -> None:
    for asked, due in load().items():
        if due["at"] <= time.time():
            await bot.peer.send(due["to"], f"reminder: {due['text']}")
            path().write_text(json.dumps({id: one for id, one in load().items() if id != asked}), "utf-8")


if __name__ == "__main__":
    bot.run()
