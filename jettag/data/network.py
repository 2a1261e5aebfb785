"""What a failure of the network means: it may pass, or it is final and has an error for the person."""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from jettag.errors import DataError, JettagError, ResourceError

__all__ = ["Judgement", "judge", "missing_package", "shown"]

MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP: timeouts, too many requests, a server in trouble
NETWORK = ("aiohttp", "botocore", "aiobotocore")  # packages whose exceptions are no OSError
PACKAGES = {  # of a scheme, with the extra that brings them
    "http": ("aiohttp", "remote"),
    "https": ("aiohttp", "remote"),
    "s3": ("s3fs", "remote"),
    "s3a": ("s3fs", "remote"),
    "root": ("fsspec-xrootd and xrootd", "xrootd"),
}
CREDENTIALS = {
    "s3": "set AWS_PROFILE, or FSSPEC_S3_ANON=true for a public bucket",
    "root": "renew your proxy or token (voms-proxy-init, kinit)",
    "": """give a token with FSSPEC_HTTPS='{"headers": {"Authorization": "Bearer ..."}}', or take a fresh link""",
}
# XRootD tells kXR_NotFound and kXR_NotAuthorized in the text alone.
XROOTD_ABSENT = ("[3011]", "no such file")
XROOTD_FORBIDDEN = ("[3010]", "permission denied", "auth failed", "not authorized", "no protocols left")
SECRET = ("signature", "token", "credential", "secret", "password", "authz", "sig", "key")


@dataclass(frozen=True)
class Judgement:
    """A failed request.

    Attributes:
        said: what happened, in a few words.
        error: the end, or None where another try may help.
        wanted_pause: seconds that the server asked to wait.
    """

    said: str
    error: JettagError | None = None
    wanted_pause: float = 0.0


def judge(problem: BaseException, where: str, timeout: float) -> Judgement:
    """Whether to try again.

    Args:
        problem: what a file system raised, with its causes.
        where: the address to show.
        timeout: seconds that the request had.
    """
    chain = list(_causes(problem))
    ours = next((error for error in chain if isinstance(error, JettagError)), None)
    if ours is not None:
        return Judgement(ours.what, type(ours)(ours.what, where=ours.where or where, do=ours.do))
    status = next((found for found in map(_status, chain) if found is not None), None)
    said = f"HTTP {status}" if status else _said(chain, timeout)
    if status in MAY_PASS:
        return Judgement(said, wanted_pause=next((p for p in map(_wanted_pause, chain) if p), 0.0))
    text = " ".join(map(str, chain)).lower()
    root = where.startswith("root://")
    if status in (404, 410) or _has(chain, FileNotFoundError) or (root and any(w in text for w in XROOTD_ABSENT)):
        what = f"no such file (HTTP {status})" if status else "no such file"
        return Judgement(said, DataError(what, where=where, do="check the address"))
    no_key = any(type(error).__name__ == "NoCredentialsError" for error in chain)
    root_refused = root and any(word in text for word in XROOTD_FORBIDDEN)
    if status in (401, 403) or no_key or root_refused or _has(chain, PermissionError):
        do = CREDENTIALS.get(where.partition("://")[0], CREDENTIALS[""])
        return Judgement(said, DataError(f"not allowed to read ({said})", where=where, do=do))
    if status is not None:
        return Judgement(said, DataError(f"the server refuses ({said})", where=where, do="check the address"))
    if _has(chain, ssl.SSLCertVerificationError):
        do = "check the address, or name the right authorities in SSL_CERT_FILE"
        return Judgement(said, ResourceError(f"the server's certificate is not valid ({said})", where=where, do=do))
    network = any(type(error).__module__.partition(".")[0] in NETWORK for error in chain)
    if _has(chain, OSError) or (network and not _has(chain, ValueError)):
        return Judgement(said)
    return Judgement(said, DataError(f"cannot be opened ({said})", where=where, do="check the address"))


def missing_package(scheme: str, problem: ImportError, where: str) -> ResourceError:
    """The error for a scheme whose package is not installed."""
    if scheme in PACKAGES:
        packages, extra = PACKAGES[scheme]
        return ResourceError(f"{scheme}:// needs {packages}", where=where, do=f"pip install 'jettag[{extra}]'")
    return ResourceError(f"a package for {scheme}:// is missing ({problem})", where=where, do="install it")


def shown(address: str) -> str:
    """The address without passwords and signatures, for messages and for what is written."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")
    netloc = f"...@{host[2]}" if ":" in host[0] else parts.netloc
    query = parse_qsl(parts.query, keep_blank_values=True)
    if any(_is_secret(name) for name, _ in query):
        hidden = [(name, "..." if _is_secret(name) else value) for name, value in query]
        return urlunsplit(parts._replace(netloc=netloc, query=urlencode(hidden)))
    # Put together again, root://host//path would lose a slash.
    return address.replace(parts.netloc, netloc, 1) if netloc != parts.netloc else address


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in SECRET)


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """The problem and what it came from."""
    seen: set[int] = set()
    found: BaseException | None = problem
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or found.__context__


def _has(chain: list[BaseException], kind: type[BaseException]) -> bool:
    return any(isinstance(error, kind) for error in chain)


def _status(error: BaseException) -> int | None:
    """The HTTP status that aiohttp or botocore kept."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return response if isinstance(response, int) else None
    status: Any = getattr(error, "status", None)
    return status if isinstance(status, int) and status >= 100 else None


def _wanted_pause(error: BaseException) -> float:
    """``Retry-After`` in seconds; a date in it is not read."""
    headers = getattr(error, "headers", None) or {}
    text = str(headers.get("Retry-After", ""))
    return float(text) if text.isdigit() else 0.0


def _said(chain: list[BaseException], timeout: float) -> str:
    error = chain[-1]
    if _has(chain, TimeoutError) and not str(error):
        return f"no answer in {timeout:g} s"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:100]}" if lines else type(error).__name__
