"""A client that binds its tickets to the certificate that the server shows ("tls-server-end-point",
RFC 5929), as browsers and curl 8 do. Prints one line for each login: what, and the status.
usage: end_point.py ADDRESS CAFILE"""

import base64
import hashlib
import http.client
import socket
import ssl
import sys

import gssapi
from gssapi.raw import ChannelBindings

SERVER = "vpn.test"
SPNEGO = gssapi.OID.from_int_seq("1.3.6.1.5.5.2")
BODY = '<config-auth type="init"/>'

address, authorities = sys.argv[1:]
tls = ssl.create_default_context(cafile=authorities)


class Connection(http.client.HTTPSConnection):
    """To the server, going on with a session of TLS if one is given."""

    def __init__(self, session=None):
        super().__init__(SERVER, context=tls)
        self.session = session

    def connect(self):
        bare = socket.create_connection((address, 443), 10)
        self.sock = tls.wrap_socket(bare, server_hostname=SERVER, session=self.session)

    def ask(self, token):
        headers = {"X-Support-HTTP-Auth": "true"}
        if token:
            headers["Authorization"] = "Negotiate " + base64.b64encode(token).decode()
        self.request("POST", "/", BODY, headers)
        answer = self.getresponse()
        answer.read()
        return answer.status


def ticket(certificate):
    """A token, bound to this certificate."""
    value = b"tls-server-end-point:" + hashlib.sha256(certificate).digest()
    bindings = ChannelBindings(
        initiator_address_type=0, acceptor_address_type=0, application_data=value
    )
    service = gssapi.Name("HTTP@" + SERVER, gssapi.NameType.hostbased_service)
    context = gssapi.SecurityContext(
        name=service, usage="initiate", mech=SPNEGO, channel_bindings=bindings
    )
    return context.step()


first = Connection()
print("nothing", first.ask(None))
shown = first.sock.getpeercert(binary_form=True)
session = first.sock.session
token = ticket(shown)
print("bound", first.ask(token))
print("again", Connection().ask(token))
print("another", Connection().ask(ticket(shown + b"!")))
resumed = Connection(session)
resumed.connect()
print("resumed", resumed.sock.session_reused, resumed.ask(ticket(shown)))
