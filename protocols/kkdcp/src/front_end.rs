//! Which requests are answered, and with what.

use std::sync::Arc;

use culvert_wire::http::{Request, Response, Version};

use crate::message::{BadMessage, ProxyMessage, encode_reply};

/// Most requests of one connection.
const REQUESTS_MAX: u8 = 16;

/// One realm of a path; the position in the list is what [`Action::Forward`] names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Path of the URL.
    pub path: String,
    /// Kerberos realm.
    pub realm: String,
}

/// What is to be done about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Carry the message to the KDC at this position, then call [`FrontEnd::handle_reply`].
    Forward {
        /// Position in the list of paths.
        server: usize,
        /// The Kerberos message, without its length.
        message: Vec<u8>,
    },
    /// Answer, then end the connection if `close`.
    Respond {
        /// The response.
        response: Response,
        /// End the connection.
        close: bool,
    },
    /// End the connection without an answer.
    CloseSilently,
}

/// Why a message has no reply, as far as clients may know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The KDC does not answer.
    #[error("no answer from the KDC")]
    Silence,
}

/// The HTTP side of one connection.
#[derive(Debug)]
pub struct FrontEnd {
    paths: Arc<[Path]>,
    included_headers: Vec<(String, String)>,
    requests: u8,
    version: Version,
}

impl FrontEnd {
    /// A front-end at the start of a connection; the headers are part of each good response.
    pub fn new(paths: Arc<[Path]>, included_headers: Vec<(String, String)>) -> Self {
        Self {
            paths,
            included_headers,
            requests: 0,
            version: Version::Http11,
        }
    }

    /// Decides about a request; `None` when it is not for this front-end.
    pub fn handle_request(&mut self, request: &Request) -> Option<Action> {
        let path = request.target.split('?').next().unwrap_or_default();
        let mut servers = self
            .paths
            .iter()
            .enumerate()
            .filter(|(_, known)| known.path == path);
        let first = servers.clone().next()?.0;
        if request.method != "POST" {
            return None;
        }
        self.version = request.version;
        self.requests = self.requests.saturating_add(1);
        if self.requests > REQUESTS_MAX || request.body.is_empty() {
            return Some(Action::CloseSilently);
        }
        let parsed = match ProxyMessage::parse(&request.body) {
            Ok(parsed) => parsed,
            Err(error @ (BadMessage::Encoding | BadMessage::Kind)) => {
                return Some(refusal(&error.to_string()));
            }
        };
        let server = match parsed.realm {
            None => first,
            Some(_) if servers.clone().count() == 1 => first,
            Some(realm) => match servers.find(|(_, known)| known.realm == realm) {
                Some((server, _)) => server,
                None => return Some(refusal("unknown realm")),
            },
        };
        Some(Action::Forward {
            server,
            message: parsed.message.to_vec(),
        })
    }

    /// Goes on with the KDC's message, without its length.
    pub fn handle_reply(&self, reply: Result<&[u8], Failure>) -> Action {
        let body = match reply {
            Ok(message) => encode_reply(message),
            Err(failure) => return refusal(&failure.to_string()),
        };
        let mut response = Response::new(200, "OK")
            .with_header("Content-Type", "application/kerberos")
            .with_header("Content-Length", body.len().to_string())
            .with_header("Connection", "Keep-Alive");
        for (name, value) in &self.included_headers {
            response.headers.push(name, value);
        }
        response.version = self.version;
        Action::Respond {
            response: response.with_body(body),
            close: self.version == Version::Http10,
        }
    }
}

fn refusal(reason: &str) -> Action {
    Action::Respond {
        response: Response::new(502, format!("kkdcp: {reason}")),
        close: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request for a ticket of this realm; a body as [`encode_reply`] writes it has none.
    fn body(realm: Option<&str>) -> Vec<u8> {
        let realm = realm.map_or(Vec::new(), |realm| {
            let length = realm.len() as u8;
            [&[0xa1, length + 2, 0x1b, length][..], realm.as_bytes()].concat()
        });
        let message = [0xa0, 8, 4, 6, 0, 0, 0, 2, 0x6a, 0];
        let length = (message.len() + realm.len()) as u8;
        [&[0x30, length][..], &message, &realm].concat()
    }

    fn front_end() -> FrontEnd {
        let path = |path: &str, realm: &str| Path {
            path: path.into(),
            realm: realm.into(),
        };
        let paths = [path("/one", "A"), path("/two", "A"), path("/two", "B")];
        FrontEnd::new(Arc::new(paths), vec![("X-Y".into(), "z".into())])
    }

    fn post(front_end: &mut FrontEnd, target: &str, body: &[u8]) -> Option<Action> {
        let mut request = Request::new("POST", target);
        request.body = body.to_vec();
        front_end.handle_request(&request)
    }

    fn server(target: &str, realm: Option<&str>) -> Option<usize> {
        match post(&mut front_end(), target, &body(realm)) {
            Some(Action::Forward { server, message }) if message == [0x6a, 0] => Some(server),
            _ => None,
        }
    }

    #[test]
    fn realms() {
        assert_eq!(server("/one", Some("A")), Some(0));
        assert_eq!(server("/one", None), Some(0));
        assert_eq!(server("/one?x", Some("OTHER")), Some(0));
        assert_eq!(server("/two", Some("B")), Some(2));
        assert_eq!(server("/two", None), Some(1));
        assert_eq!(server("/two", Some("OTHER")), None);
        assert_eq!(
            post(&mut front_end(), "/two", &body(Some("C"))),
            Some(refusal("unknown realm"))
        );
    }

    #[test]
    fn what_is_not_for_it() {
        for target in ["/", "/one/", "/On", "one", ""] {
            assert_eq!(post(&mut front_end(), target, &body(None)), None, "{target}");
        }
        assert_eq!(front_end().handle_request(&Request::new("GET", "/one")), None);
    }

    #[test]
    fn junk() {
        let mut one = front_end();
        let Some(Action::Respond {
            response,
            close: true,
        }) = post(&mut one, "/one", b"junk")
        else {
            panic!("an answer");
        };
        assert_eq!(
            response.to_bytes(),
            b"HTTP/1.1 502 kkdcp: DER decoding error\r\n\r\n"
        );
        assert_eq!(post(&mut one, "/one", b""), Some(Action::CloseSilently));
        for _ in 2..REQUESTS_MAX {
            assert!(matches!(
                post(&mut one, "/one", &body(None)),
                Some(Action::Forward { .. })
            ));
        }
        assert_eq!(post(&mut one, "/one", &body(None)), Some(Action::CloseSilently));
    }

    #[test]
    fn replies() {
        let mut one = front_end();
        post(&mut one, "/one", &body(None));
        let Action::Respond { response, close } = one.handle_reply(Ok(b"reply")) else {
            panic!("an answer");
        };
        assert!(!close);
        let expected = b"HTTP/1.1 200 OK\r\nContent-Type: application/kerberos\r\nContent-Length: 15\r\n\
                         Connection: Keep-Alive\r\nX-Y: z\r\n\r\n\x30\x0d\xa0\x0b\x04\x09\0\0\0\x05reply";
        assert_eq!(response.to_bytes(), expected);
        assert_eq!(
            one.handle_reply(Err(Failure::Silence)),
            refusal("no answer from the KDC")
        );
        // As MIT's client asks.
        let mut request = Request::new("POST", "/one");
        request.version = Version::Http10;
        request.body = body(None);
        one.handle_request(&request);
        assert!(matches!(
            one.handle_reply(Ok(b"r")),
            Action::Respond { close: true, .. }
        ));
    }
}
