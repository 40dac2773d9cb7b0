"""The certificates that are trusted, and advice for TLS connections that fail."""

from __future__ import annotations

import os
import ssl

import certifi

from openreward_gym.errors import ConfigurationError
from openreward_gym.processes import is_out_of_files

_TRUST = "If that authority is to be trusted, name a file with its certificate (PEM) in the environment variable SSL_CERT_FILE."
# Part of OpenSSL's message, in lower case -> what is wrong, and what to do.
_ADVICE = (
    ("certificate has expired", "The server's certificate has expired. Renew it there, or correct this machine's clock."),
    ("not yet valid", "The server's certificate is not valid yet. Is this machine's clock right?"),
    ("mismatch", "The server's certificate is for another host name. Use a name that the certificate has."),
    ("doesn't match", "The server's certificate is for another host name. Use a name that the certificate has."),
    ("self-signed", f"No authority that this machine trusts has signed the server's certificate. {_TRUST}"),
    ("self signed", f"No authority that this machine trusts has signed the server's certificate. {_TRUST}"),
    ("local issuer", f"This machine does not know the authority that signed the server's certificate. {_TRUST}"),
    ("certificate_verify_failed", f"The server's certificate is not accepted. {_TRUST}"),
    ("wrong_version_number", "The server does not speak TLS at that port. Is its address http:// instead of https://?"),
    ("record layer failure", "The server does not speak TLS at that port. Is its address http:// instead of https://?"),
    ("http_request", "The server does not speak TLS at that port. Is its address http:// instead of https://?"),
    ("unsupported_protocol", "The server speaks only versions of TLS that are no longer secure."),
    ("certificate_required", "The server requires a client certificate: pass an httpx.AsyncClient that has one as transport=."),
)


def trusted_certificates() -> ssl.SSLContext:
    """Return a context that trusts the system's and certifi's certificates, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.

    Raises:
        ConfigurationError: One of the two variables names nothing that can be used.
        OSError: This process has too many open files.
    """
    file, folders = os.environ.get("SSL_CERT_FILE", ""), os.environ.get("SSL_CERT_DIR", "")
    if folders and not any(os.path.isdir(folder) for folder in folders.split(os.pathsep)):
        raise ConfigurationError(
            f"SSL_CERT_DIR={folders!r} is not a folder. Name the folder of the trusted certificates, or unset it."
        )
    context = ssl.create_default_context()
    problem = ""
    try:
        if file:
            context.load_verify_locations(file)
        elif not folders:
            context.load_verify_locations(certifi.where())
    except FileNotFoundError:
        problem = "does not exist"
    except ssl.SSLError:
        problem = "is not a file of certificates in the format PEM"
    except (OSError, ValueError) as error:
        if is_out_of_files(error):
            raise
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    if problem:
        raise ConfigurationError(f"SSL_CERT_FILE={file!r} {problem}. Name the file of the trusted certificates, or unset it.")
    return context


def tls_advice(reason: str) -> str:
    """Return what is wrong with a TLS connection and what to do, for OpenSSL's message. Empty for no TLS failure.

    Example:
        >>> tls_advice("certificate verify failed: certificate has expired")
        "The server's certificate has expired. Renew it there, or correct this machine's clock."
    """
    text = reason.lower()
    for part, advice in _ADVICE:
        if part in text:
            return advice
    return "The two sides could not agree on a TLS connection." if "[ssl" in text or "ssl:" in text else ""
