"""Recognize secrets by name or by format, and keep them out of what is recorded, hashed and shown.

Options refer to environment variables as ``${oc.env:NAME}``; the value is filled in when Spark or a step is called.
Python's own ``secrets`` generates random tokens; this module hides existing ones.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

from spark_flow.errors import InvalidArgument

HIDDEN = "***"
SHORTEST = 4  # characters: a shorter value is not hidden everywhere, since it occurs in too many words

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORDS = frozenset(
    {"password", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "credential", "credentials"}
    | {"authorization", "sig", "signature", "sas"}
)
_SECRET_LAST = frozenset({"auth", "pass", "pw"})  # `proxy.auth` is a secret, `auth.type` is not
_SECRET_ENDS = (
    *("password", "passwd", "passphrase", "secret", "token", "credentials", "connectionstring"),
    *("accesskey", "accountkey", "apikey", "privatekey", "secretkey", "sharedkey"),
)
_NOT_SECRET = frozenset({"basic", "bearer", "default", "digest", "false", "none", "null", "oauth", "sharedkey", "true"})
_OF_KEYS = frozenset({"access", "account", "api", "auth", "encryption", "master", "private", "secret", "shared"})
_ABOUT = frozenset(  # `token_column` is not a token
    {"algorithm", "class", "column", "columns", "count", "enabled", "endpoint", "expires", "field", "fields", "file"}
    | {"format", "length", "location", "mode", "name", "names", "path", "provider", "scope", "type", "uri", "url"}
    | {"version"}
)

_SETTINGS = frozenset(  # arguments that hold options of a reader, a driver or a service
    {"auth", "conf", "config", "connection", "headers", "opts", "options", "params", "properties", "props", "settings"}
)

_REFERENCE = re.compile(r"\$\{oc\.env:\s*([A-Za-z_]\w*)\s*(?:,\s*([^{}]*?)\s*)?\}")
_SCHEME = r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}"
_URL = re.compile(rf"{_SCHEME}:\S*")
_VALUE = (
    r"""(?:Bearer|Basic|Digest)\s+[^\s'"]+|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\$\{[^{}]*\}|\{[^}]*\}|[^\s&;,)\]}'"]+"""
)
_NAMED = re.compile(rf"(?<![\w.\-])([\w.\-]{{1,200}})(['\"]?\s*=\s*|['\"]\s*:\s*|:\s+)({_VALUE})")
_VAGUE = ("token", "auth", "sig", "signature")  # also words of a sentence: "unexpected token: x"
_LOOKS = (
    (re.compile(r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?(?:-----END \1PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(rf"({_SCHEME}://)[^/\s:@'\"<>]*:(?:[^/?#\s'\"<>]*|(?!\d+[/?#])[^\s@'\"<>]*)@"), rf"\1{HIDDEN}@"),
    (re.compile(r"(https?://)[^/?#\s@'\"<>]+@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    (re.compile(r"(jdbc:oracle:\w+:)[^/\s@'\"]+/[^\s'\"]+@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    (re.compile(r"\b(Bearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b(?:\s*[:/,]\s*[A-Za-z0-9/+=]{40})?"), HIDDEN),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), HIDDEN),
    (re.compile(r"\b(?:gh[pousr]_\w{20,}|xox[abprs]-[\w-]{10,}|dapi[0-9a-f]{32})"), HIDDEN),
)


# --- by name ---------------------------------------------------------------------------------------------------------


def is_secret(name: str) -> bool:
    """Whether this is the name of a secret: ``db.password``, ``fs.azure.account.key.x``, ``apiKey``, ``sig``.

    >>> [is_secret(name) for name in ("PGPASSWORD", "account.key", "privateKey", "auth")]
    [True, True, True, True]
    >>> [is_secret(name) for name in ("token_column", "author", "key", "auth.type", "max_tokens")]
    [False, False, False, False, False]
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    if not words or words[-1] in _ABOUT:
        return False
    keys = any(after == "key" and of in _OF_KEYS for of, after in itertools.pairwise(words))
    text = ("connection", "string") in itertools.pairwise(words)
    named = any(word in _SECRET_WORDS or word.endswith(_SECRET_ENDS) for word in words)
    return keys or text or named or words[-1] in _SECRET_LAST


# --- by format -------------------------------------------------------------------------------------------------------


def redact(text: str) -> str:
    """Return the text with ``***`` for what looks like a secret: credentials in URLs, ``password=…``, keys, tokens.

    >>> redact("jdbc:postgresql://me:hunter2@host/db?user=me&password=hunter2&ssl=true")
    'jdbc:postgresql://***@host/db?user=me&password=***&ssl=true'
    >>> redact("vars.password=${oc.env:PGPASSWORD}")
    'vars.password=${oc.env:PGPASSWORD}'
    """
    for look, shown in _LOOKS:
        text = look.sub(shown, text)
    return _NAMED.sub(_without_value, text)


def _without_value(found: re.Match[str]) -> str:
    name, sign, value = found.groups()
    vague = sign.startswith(":") and _WORDS.findall(name.lower())[-1:] and name.lower().endswith(_VAGUE)
    if value.startswith("${") or HIDDEN in value or vague or not is_secret(name):
        return found[0]
    quoted = value[0] if value[0] in "'\"" else ""
    return f"{name}{sign}{quoted}{HIDDEN}{quoted}"


def without_credentials(text: str) -> str:
    """Return a URL without its credentials; any other text, for example a query, is returned unchanged."""
    return redact(text) if _URL.fullmatch(text) else text


# --- by value --------------------------------------------------------------------------------------------------------


class Redactor:
    """Hides secrets in texts and nested data: what looks like a secret, and the values that it has learned.

    Each run has one. Values are never unlearned: they stay hidden for as long as the run lasts.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._values: tuple[str, ...] = ()
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """Hide these values from now on, both plain and as quoted in a URL, in JSON or by Python's ``repr``."""
        found = {form for value in values if _may_be_hidden(value) for form in _forms(value)}
        with self._lock:
            self._values = tuple(sorted({*self._values, *found}, key=len, reverse=True))

    def learn_from(self, settings: Mapping[str, Any]) -> None:
        """Hide the values of settings that have the name of a secret."""
        self.learn(named_secrets(settings))

    def knows(self, text: str) -> bool:
        """Whether a text contains a learned value."""
        return any(value in text for value in self._values)

    def __call__(self, text: str) -> str:
        """Return the text with ``***`` for each secret."""
        for value in self._values:
            text = text.replace(value, HIDDEN)
        return redact(text)

    def facts(self, value: Any, name: str = "") -> Any:
        """Return nested data with ``***`` for each secret; numbers and other values are unchanged."""
        if isinstance(value, Mapping):
            return {key: self.facts(each, str(key)) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.facts(each, name) for each in value]
        if not isinstance(value, str) or not value or name in _EXACT:
            return value
        if is_secret(name) and not _REFERENCE.fullmatch(value):
            return HIDDEN
        return redact(value) if name in _IDENTITIES else self(value)


_EXACT = frozenset({"predicate"})  # read back, and not free text
_IDENTITIES = frozenset(  # read back to find what was written; they may contain a learned value by chance
    {"path", "folder", "column", "key", "pipeline", "dataset", "node", "table", "format", "route", "config", "job"}
    | {"cwd", "run", "state", "staging", "pool"}
)


def _may_be_hidden(value: str) -> bool:
    return len(value.strip()) >= SHORTEST and value.strip().lower() not in _NOT_SECRET


def _forms(value: str) -> set[str]:
    lines = [line.strip() for line in value.splitlines()] if "\n" in value.strip() else []
    texts = [value.strip(), *(line for line in lines if len(line) >= 4 * SHORTEST)]
    return {
        form
        for text in texts
        for form in (text, quote(text, safe=""), quote_plus(text), json.dumps(text)[1:-1], repr(text)[1:-1])
    }


def named_secrets(settings: Any, name: str = "") -> list[str]:
    """Return the values with the name of a secret, at any depth, with environment references resolved."""
    if isinstance(settings, Mapping):
        return [
            value
            for key, each in settings.items()
            for value in named_secrets(each, str(key) if not is_secret(name) else name)
        ]
    if isinstance(settings, list | tuple):
        return [value for each in settings for value in named_secrets(each, name)]
    if not is_secret(name) or isinstance(settings, bool) or not isinstance(settings, str | int):
        return []
    return [_REFERENCE.sub(lambda found: os.environ.get(found[1], found[2] or ""), str(settings))]


def shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that are safe to record: ``***`` for what has the name or format of a secret."""
    return {name: HIDDEN if is_secret(name) and _is_given(v) else _looked(v) for name, v in settings.items()}


def arguments_shown(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call's arguments without credentials: arguments with the name of a secret, and secrets in settings.

    Other mappings are unchanged: in a mapping of columns, ``token`` is a column.
    """
    return {
        name: HIDDEN
        if is_secret(name) and _is_given(value) and not callable(value) and not hasattr(value, "fingerprint")
        else _shown_within(name, value)
        for name, value in arguments.items()
    }


def _shown_within(name: str, value: Any) -> Any:
    words = [word.lower() for word in _WORDS.findall(name)]
    return shown(value) if isinstance(value, Mapping) and words and words[-1] in _SETTINGS else value


def _is_given(value: object) -> bool:
    return not (isinstance(value, str) and _REFERENCE.fullmatch(value))


def _looked(value: Any) -> Any:
    return redact(value) if isinstance(value, str) else value


# --- from the environment --------------------------------------------------------------------------------------------


def variables(text: str) -> list[str]:
    """Return the environment variables that a text refers to, as ``${oc.env:NAME}`` or ``${oc.env:NAME,default}``."""
    return [found[1] for found in _REFERENCE.finditer(text)]


def escaped(text: str) -> str:
    r"""Escape the environment references in a text, so that OmegaConf does not resolve them.

    A reference nested in another one is not escaped, since the result of the outer one is unknown.

    >>> escaped("${a}/${oc.env:X}/${oc.decode:${oc.env:Y}}")
    '${a}/\\${oc.env:X}/${oc.decode:${oc.env:Y}}'
    """
    whole = re.sub(r"\$\{[^{}]*(\$\{)", lambda found: found[0].replace("$", "\0"), text)
    return _REFERENCE.sub(lambda found: f"\\{found[0]}", whole).replace("\0", "$")


def resolved(value: Any) -> Any:
    """Return a value, at any depth, with the current values of its environment references; call it just before use.

    Raises:
        InvalidArgument: A variable is not set.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(_looked_up, value)
    if isinstance(value, dict):
        return {name: resolved(each) for name, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(resolved(each) for each in value)
    return value


def _looked_up(found: re.Match[str]) -> str:
    given = os.environ.get(found[1], found[2].strip("'\"") if found[2] is not None else None)
    if given is None:
        expected = f"the environment variable {found[1]}, which is read when the value is used"
        raise InvalidArgument(found[0], f"no environment variable {found[1]}", expected)
    return given


def scrub(error: BaseException, redactor: Redactor) -> None:
    """Remove secrets from the messages of an error, of its causes, and of the errors that it holds."""
    seen: set[int] = set()
    left: list[object] = [error]
    while left:
        one = left.pop()
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        one.args = tuple(redactor(arg) if isinstance(arg, str) else arg for arg in one.args)
        held = vars(one).get("errors")
        left += [one.__cause__, one.__context__, vars(one).get("cause")]
        left += list(held.values()) if isinstance(held, Mapping) else []
