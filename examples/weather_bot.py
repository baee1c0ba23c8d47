"""A bot that tells the weather, from a table instead of a network.

python examples/weather_bot.py 8100 localhost:8080
"""

from p2pchat.bots import Bot

TABLE = {"berlin": "rain, 9 °C", "lisbon": "sun, 21 °C", "oslo": "snow, -4 °C"}

bot = Bot("weather", prefix="!", about="I tell the weather: weather CITY")


@bot.command
def weather(city: str) -> str:
    """Tell the weather in a city."""
    return f"{city}: {TABLE.get(city.lower(), 'I do not know')}"


@bot.command
def cities() -> str:
    """List the cities I know."""
    return ", ".join(TABLE)


if __name__ == "__main__":
    bot.run()
