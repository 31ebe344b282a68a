//! `camouflage` (`specs/server-auth.md` §2.9): who does not know the secret sees a web server that lets
//! nobody in, or one without pages.

use culvert_vocab::{SecretString, SessionId};
use culvert_wire::http::{Request, Response};

use crate::ipc::snapshot::CamouflageSnapshot;

const UNAUTHORIZED: &str = "<html><body><h1>401 Unauthorized</h1></body></html>\r\n";
const NOT_FOUND: &str = "<html><body><h1>404 Not Found</h1></body></html>\r\n";
/// Cookies by which a client may be known already.
const COOKIES: [&str; 2] = ["webvpn", "webvpncontext"];

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is served.
    Pass(Request),
    /// Ask the broker whether it knows this session or login, then [`Camouflage::handle_recognition`].
    Ask(SessionId),
    /// It gets this answer, the last one.
    Decoy(Response),
}

/// The camouflage of one connection.
#[derive(Debug)]
pub(super) struct Camouflage {
    secret: SecretString,
    realm: Option<String>,
    /// The client has shown that it knows the secret.
    passed: bool,
    /// A request that waits for the broker, and the sessions that it may be of.
    waiting: Option<(Request, Vec<SessionId>)>,
}

impl Camouflage {
    /// At the start of a connection.
    pub(super) fn new(settings: &CamouflageSnapshot) -> Self {
        Self {
            secret: settings.secret.clone(),
            realm: settings.realm.clone(),
            passed: false,
            waiting: None,
        }
    }

    /// Judges a request. Its secret is cut off.
    pub(super) fn admit(&mut self, mut request: Request) -> Verdict {
        if let Some((path, query)) = request.target.split_once('?')
            && SecretString::from(query) == self.secret
            && matches!(request.method.as_str(), "GET" | "POST")
        {
            self.passed = true;
            request.target = path.to_owned();
        }
        if self.passed {
            return Verdict::Pass(request);
        }
        let candidates = sessions(&request);
        self.ask_next(request, candidates)
    }

    /// Goes on with the broker's answer to [`Verdict::Ask`].
    pub(super) fn handle_recognition(&mut self, known: bool) -> Verdict {
        match self.waiting.take() {
            Some((request, _)) if known => {
                self.passed = true;
                Verdict::Pass(request)
            }
            Some((request, candidates)) => self.ask_next(request, candidates),
            None => Verdict::Decoy(self.decoy(true)),
        }
    }

    /// What a request gets that cannot be read, until the client has passed.
    pub(super) fn decoy_for_junk(&self) -> Option<Response> {
        (!self.passed).then(|| self.decoy(true))
    }

    fn ask_next(&mut self, request: Request, mut candidates: Vec<SessionId>) -> Verdict {
        match candidates.pop() {
            Some(session) => {
                self.waiting = Some((request, candidates));
                Verdict::Ask(session)
            }
            None => Verdict::Decoy(self.decoy(request.method != "HEAD")),
        }
    }

    fn decoy(&self, body: bool) -> Response {
        let (response, text) = match &self.realm {
            Some(realm) => {
                let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
                let challenge = format!("Basic realm=\"{realm}\"");
                let response = Response::new(401, "Unauthorized").with_header("WWW-Authenticate", challenge);
                (response, UNAUTHORIZED)
            }
            None => (Response::new(404, "Not found"), NOT_FOUND),
        };
        response
            .with_header("Content-Length", text.len().to_string())
            .with_header("Connection", "close")
            .with_body(if body { text } else { "" })
    }
}

/// What the request's cookies may be, the likelier last.
fn sessions(request: &Request) -> Vec<SessionId> {
    let pairs = || {
        let lines = request.headers.get_all("Cookie");
        lines
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
    };
    let named = |wanted: &&str| pairs().find(|(name, _)| name == wanted);
    let mut found: Vec<_> = COOKIES
        .iter()
        .filter_map(named)
        .filter_map(|(_, value)| SessionId::from_cookie(value).ok())
        .collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn camouflage(realm: Option<&str>) -> Camouflage {
        Camouflage::new(&CamouflageSnapshot {
            secret: "my secret".into(),
            realm: realm.map(str::to_owned),
        })
    }

    fn request(method: &str, target: &str, cookies: &str) -> Request {
        let mut request = Request::new(method, target);
        if !cookies.is_empty() {
            request.headers.push("Cookie", cookies);
        }
        request
    }

    fn passes(verdict: Verdict) -> Option<String> {
        match verdict {
            Verdict::Pass(request) => Some(request.target),
            Verdict::Ask(_) | Verdict::Decoy(_) => None,
        }
    }

    fn decoy(verdict: Verdict) -> String {
        match verdict {
            Verdict::Decoy(response) => String::from_utf8(response.to_bytes()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_secret_opens_the_connection() {
        let mut gate = camouflage(None);
        assert_eq!(
            passes(gate.admit(request("GET", "/?my secret", ""))).as_deref(),
            Some("/")
        );
        assert_eq!(
            passes(gate.admit(request("POST", "/auth", ""))).as_deref(),
            Some("/auth")
        );
        let again = gate.admit(request("POST", "/auth?my secret", ""));
        assert_eq!(passes(again).as_deref(), Some("/auth"));
        let other = gate.admit(request("GET", "/auth?x", ""));
        assert_eq!(passes(other).as_deref(), Some("/auth?x"));
        assert!(gate.decoy_for_junk().is_none());
    }

    #[test]
    fn everything_else_gets_the_same_answer() {
        let with_realm = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a \\\"b\\\"\"\r\n\
            Content-Length: 53\r\nConnection: close\r\n\r\n<html><body><h1>401 Unauthorized</h1></body></html>\r\n";
        let without = "HTTP/1.1 404 Not found\r\nContent-Length: 50\r\nConnection: close\r\n\r\n\
            <html><body><h1>404 Not Found</h1></body></html>\r\n";
        for (realm, expected) in [(Some("a \"b\""), with_realm), (None, without)] {
            for (method, target) in [
                ("GET", "/"),
                ("POST", "/auth"),
                ("GET", "/?my"),
                ("GET", "/?my secret "),
                ("GET", "/my secret"),
                ("GET", "/??my secret"),
                ("CONNECT", "/CSCOSSLC/tunnel"),
                ("CONNECT", "/CSCOSSLC/tunnel?my secret"),
                ("PUT", "/?my secret"),
            ] {
                let answer = decoy(camouflage(realm).admit(request(method, target, "webvpn=x; a")));
                assert_eq!(answer, expected, "{method} {target}");
            }
            let junk = camouflage(realm).decoy_for_junk().unwrap();
            assert_eq!(junk.to_bytes(), expected.as_bytes());
            let head = decoy(camouflage(realm).admit(request("HEAD", "/", "")));
            assert_eq!(head, expected.split_inclusive("\r\n\r\n").next().unwrap());
        }
    }

    #[test]
    fn a_cookie_counts_when_the_broker_knows_it() {
        let [a, b] = [1, 2].map(|octet| SessionId::from_bytes([octet; 32]));
        let cookies = |a: &SessionId, b: &SessionId| {
            format!(
                "webvpn={}; webvpncontext={}",
                a.to_cookie().expose(),
                b.to_cookie().expose()
            )
        };
        let mut gate = camouflage(None);
        let asked = gate.admit(request("CONNECT", "/CSCOSSLC/tunnel", &cookies(&a, &b)));
        assert!(matches!(asked, Verdict::Ask(id) if id == b));
        assert!(matches!(gate.handle_recognition(false), Verdict::Ask(id) if id == a));
        assert_eq!(
            passes(gate.handle_recognition(true)).as_deref(),
            Some("/CSCOSSLC/tunnel")
        );
        assert_eq!(passes(gate.admit(request("GET", "/", ""))).as_deref(), Some("/"));
        let mut gate = camouflage(None);
        gate.admit(request("GET", "/", &cookies(&a, &a)));
        decoy(gate.handle_recognition(false));
    }
}
