"""A bot that tells the room when a build breaks or works again: it watches a file that the build writes.

python examples/build_bot.py 8087 localhost:8080
"""

import os
from pathlib import Path

from p2pchat.bots import Bot

STATUS = Path(os.environ.get("BUILD_STATUS", "build-status.txt"))  # its text is the status, as "passed"

bot = Bot("build", prefix="!", about="I tell when the build changes: status")
known = ""


@bot.command
async def status() -> str:
    """Tell how the build is."""
    return STATUS.read_text("utf-8").strip() if STATUS.exists() else "not built yet"


@bot.every(seconds=0.5)
async def watch() -> None:
    global known
    before, known = known, await status()
    if before and before != known:
        await bot.peer.broadcast(f"the build is {known}, it was {before}")


if __name__ == "__main__":
    bot.run()
