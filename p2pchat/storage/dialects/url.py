"""URLs of databases: kind, user, password, host, port, database and options of the driver.

Errors never show a URL: it may have a password in it. The same URLs are understood as by SQLAlchemy, which read them
in earlier versions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote, quote_plus, unquote

from p2pchat.errors import StorageError

WRITTEN = "sqlite:////absolute/path, mysql://, mariadb:// or postgresql://USER@HOST/DATABASE"
ALIASES = {"postgres": "postgresql"}  # people write both

_URL = re.compile(
    r"""(?P<kind>\w+)(?:\+(?P<driver>[\w+]*))?://
    (?:(?P<user>[^:/]*)(?::(?P<password>[^@]*))?@)?
    (?:\[(?P<ipv6>[^/?]+)\]|(?P<host>[^/:?]+))?
    (?::(?P<port>\d*))?
    (?:/(?P<database>[^?]*))?
    (?:\?(?P<options>.*))?""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class DatabaseURL:
    """A parsed URL; None and "" stand for parts it does not have. An option given more than once is joined by commas.

    The password is not in its repr.
    """

    kind: str
    driver: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    database: str = ""
    options: dict[str, str] = field(default_factory=dict, repr=False)

    def render(self) -> str:
        """Return it as text, with the password."""
        user = None if self.user is None else quote(self.user, safe=" +")
        password = "" if self.password is None else f":{quote(self.password, safe=' +')}"
        login = "" if user is None else f"{user}{password}@"
        host = f"[{self.host}]" if ":" in (self.host or "") else self.host or ""
        port = "" if self.port is None else f":{self.port}"
        options = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in sorted(self.options.items()))
        kind = f"{self.kind}+{self.driver}" if self.driver else self.kind
        database = f"/{quote(self.database, safe=' +/')}" if self.database else ""
        return f"{kind}://{login}{host}{port}{database}{'?' if options else ''}{options}"


def parse_url(url: str) -> DatabaseURL:
    """Return the parts of a database URL.

    Raises:
        StorageError: This is no URL; the text does not show it.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise StorageError(f"that is no database URL: write {WRITTEN}")
    user, password = (None if found[part] is None else unquote(found[part]) for part in ("user", "password"))
    options: dict[str, str] = {}
    for name, value in parse_qsl(found["options"] or ""):
        options[name] = f"{options[name]},{value}" if name in options else value
    return DatabaseURL(
        ALIASES.get(found["kind"], found["kind"]),
        found["driver"] or "",
        user,
        password,
        found["ipv6"] or found["host"],
        int(found["port"]) if found["port"] else None,
        unquote(found["database"] or ""),
        options,
    )
