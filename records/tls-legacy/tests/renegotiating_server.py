"""A server of GnuTLS that wants a certificate after it has heard something: it renegotiates, and says
how that went. gnutls-serv cannot do that: its own answer to the command comes in between.

Arguments: port, certificate file, key file, priority string.
"""

import ctypes
import socket
import sys

SERVER, CREDENTIALS_CERTIFICATE, PEM, REQUIRE = 1, 1, 1, 2

port, certificate, key, priorities = int(sys.argv[1]), *(text.encode() for text in sys.argv[2:])
gnutls = ctypes.CDLL("libgnutls.so.30")
gnutls.gnutls_certificate_get_peers.restype = ctypes.c_void_p


def succeed(code):
    if code < 0:
        sys.exit(f"GnuTLS fails with {code}")


def handshake(session):
    while True:
        code = gnutls.gnutls_handshake(session)
        if code >= 0 or gnutls.gnutls_error_is_fatal(code) or code == -16:  # a warning alert
            return code


credentials, session = ctypes.c_void_p(), ctypes.c_void_p()
succeed(gnutls.gnutls_certificate_allocate_credentials(ctypes.byref(credentials)))
succeed(gnutls.gnutls_certificate_set_x509_key_file(credentials, certificate, key, PEM))
succeed(gnutls.gnutls_init(ctypes.byref(session), SERVER))
succeed(gnutls.gnutls_priority_set_direct(session, priorities, None))
succeed(gnutls.gnutls_credentials_set(session, CREDENTIALS_CERTIFICATE, credentials))
listener = socket.create_server(("127.0.0.1", port))
connection, _ = listener.accept()
gnutls.gnutls_transport_set_int2(session, connection.fileno(), connection.fileno())
succeed(handshake(session))
buffer = ctypes.create_string_buffer(1000)
succeed(gnutls.gnutls_record_recv(session, buffer, len(buffer)))
for _ in range(2):
    gnutls.gnutls_certificate_server_set_request(session, REQUIRE)
    succeed(gnutls.gnutls_rehandshake(session))
    code = handshake(session)
    count = ctypes.c_uint(0)
    gnutls.gnutls_certificate_get_peers(session, ctypes.byref(count))
    text = f"handshake: {code}, certificates: {count.value}\n".encode()
    succeed(gnutls.gnutls_record_send(session, text, len(text)))
gnutls.gnutls_bye(session, 0)
