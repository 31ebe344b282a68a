//! The CONNECT method (RFC 9110 §9.3.6, `specs/client.md` §11.2).

use std::time::SystemTime;

use culvert_http_auth::{Attempted, AuthError, Authenticator, Circumstances};
use culvert_wire::http::{Request, Response, ResponseError, ResponseReader};
use culvert_wire::url::ServerUrl;
use zeroize::Zeroizing;

use super::{Notices, Progress};
use crate::net::dump;
use crate::output::Level;

/// Most requests for one tunnel.
const REQUESTS_MAX: usize = 10;

/// Why the proxy does not connect.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum HttpError {
    #[error(transparent)]
    Response(ResponseError),
    /// The connection failed while the proxy was to answer.
    #[error("Error reading HTTP response: {0}")]
    Unread(String),
    /// It says no.
    #[error("Proxy CONNECT request failed: {0}")]
    Refused(u16),
    #[error("{}", auth_text(*.0))]
    Authentication(AuthError),
    #[error("The proxy asks for authentication again and again")]
    TooManyRequests,
}

impl From<ResponseError> for HttpError {
    fn from(error: ResponseError) -> Self {
        match error {
            ResponseError::Truncated => Self::Unread(super::CLOSED.into()),
            error => Self::Response(error),
        }
    }
}

fn auth_text(error: AuthError) -> String {
    match error {
        AuthError::BasicDisabled => {
            "Proxy requested Basic authentication which is disabled by default".into()
        }
        AuthError::Exhausted | AuthError::ChallengeTooLong | AuthError::Forged | AuthError::Stopped => {
            error.to_string()
        }
    }
}

/// The conversation with an HTTP proxy, across connections.
#[derive(Debug)]
pub(super) struct HttpConnect<'s> {
    request: Request,
    /// `host:port`, also for Digest.
    target: String,
    authenticator: Authenticator<'s>,
    reader: ResponseReader,
    rest: bool,
    requests: usize,
    /// What the next request attempts.
    attempt: Option<Attempted>,
    notices: Notices,
}

impl<'s> HttpConnect<'s> {
    pub(super) fn new(server: &ServerUrl, user_agent: &str, authenticator: Authenticator<'s>) -> Self {
        let target = format!("{}:{}", server.host, server.port);
        let mut request = Request::new("CONNECT", target.clone());
        for (name, value) in [
            ("Host", server.host_header().as_str()),
            ("User-Agent", user_agent),
            ("Proxy-Connection", "keep-alive"),
            ("Connection", "keep-alive"),
            ("Accept-Encoding", "identity"),
        ] {
            request.headers.push(name, value);
        }
        Self {
            request,
            target,
            authenticator,
            reader: ResponseReader::for_proxy(),
            rest: false,
            requests: 0,
            attempt: None,
            notices: Notices::default(),
        }
    }

    /// The request, on a new connection.
    pub(super) fn begin(&mut self) -> Vec<u8> {
        let text = format!("Requesting HTTP proxy connection to {}", self.target);
        self.notices.push(Level::Info, text);
        self.request()
    }

    fn request(&mut self) -> Vec<u8> {
        if let Some(attempt) = self.attempt.take() {
            self.notices.push(Level::Info, attempt.towards("proxy"));
        }
        self.reader = ResponseReader::for_proxy();
        self.requests += 1;
        self.request.to_bytes()
    }

    /// What to tell the user.
    pub(super) fn notices(&mut self) -> &mut Notices {
        &mut self.notices
    }

    /// Takes octets of the proxy; `random` and `now` are for authentication.
    pub(super) fn handle_input(
        &mut self,
        input: &[u8],
        random: [u8; 32],
        now: SystemTime,
    ) -> Result<(Vec<u8>, Progress), HttpError> {
        let Some(response) = self.reader.handle_input(input)? else {
            return Ok((Vec::new(), Progress::More));
        };
        self.rest = !self.reader.take_rest().is_empty();
        self.handle_response(&response, random, now)
    }

    /// The proxy has closed the connection. `None`: in the middle of nothing.
    pub(super) fn handle_eof(
        &mut self,
        random: [u8; 32],
        now: SystemTime,
    ) -> Result<Option<Progress>, HttpError> {
        if !self.reader.has_input() {
            return Ok(None);
        }
        let response = self.reader.handle_eof()?;
        let (_, progress) = self.handle_response(&response, random, now)?;
        Ok((progress == Progress::Reconnect).then_some(progress))
    }

    fn handle_response(
        &mut self,
        response: &Response,
        random: [u8; 32],
        now: SystemTime,
    ) -> Result<(Vec<u8>, Progress), HttpError> {
        let level = match response.status {
            200..300 | 407 => Level::Debug,
            _ => Level::Info,
        };
        let status = format!("Got HTTP response: {}", response.status_line());
        self.notices.push(level, status);
        for (name, value) in response.headers.iter() {
            self.notices.push(Level::Debug, dump::header(name, value));
        }
        if !response.is_success() {
            self.notices.push(Level::Debug, dump::body_length(response));
        }
        match response.status {
            200..300 => {
                self.authenticator
                    .verify(response.headers.get_all("Proxy-Authenticate"))
                    .map_err(HttpError::Authentication)?;
                Ok((Vec::new(), Progress::Open))
            }
            407 => self.authenticate(response, random, now),
            status => Err(HttpError::Refused(status)),
        }
    }

    fn authenticate(
        &mut self,
        response: &Response,
        random: [u8; 32],
        now: SystemTime,
    ) -> Result<(Vec<u8>, Progress), HttpError> {
        if self.requests >= REQUESTS_MAX {
            return Err(HttpError::TooManyRequests);
        }
        let circumstances = Circumstances {
            method: "CONNECT",
            uri: &self.target,
            random,
            now,
        };
        let answer = self
            .authenticator
            .answer(response.headers.get_all("Proxy-Authenticate"), &circumstances)
            .map_err(HttpError::Authentication)?;
        self.attempt = answer.attempt;
        let value = Zeroizing::new(answer.header.expose().to_owned());
        self.request.headers.remove("Proxy-Authorization");
        self.request.headers.push("Proxy-Authorization", value.as_str());
        let closes = response.closes()
            || response
                .headers
                .get_all("Proxy-Connection")
                .any(|value| value.eq_ignore_ascii_case("close"));
        if closes || answer.fresh {
            return Ok((Vec::new(), Progress::Reconnect));
        }
        Ok((self.request(), Progress::More))
    }

    /// True when the proxy has sent more than its answer.
    pub(super) fn has_rest(&self) -> bool {
        self.rest
    }
}

#[cfg(test)]
mod tests {
    use culvert_http_auth::{Credentials, Schemes};

    use super::*;

    fn connect(schemes: &str) -> HttpConnect<'static> {
        let server = ServerUrl::parse("https://10.77.0.1:4443/").expect("URL");
        let credentials = Credentials {
            user: "us@er".into(),
            password: "p:w".into(),
        };
        let authenticator = Authenticator::new(Schemes::parse(schemes), Some(credentials), None);
        HttpConnect::new(&server, "Open AnyConnect VPN Agent v9.01-3", authenticator)
    }

    fn input(connect: &mut HttpConnect<'_>, text: &str) -> Result<(String, Progress), HttpError> {
        let (answer, progress) = connect.handle_input(text.as_bytes(), [1; 32], SystemTime::UNIX_EPOCH)?;
        Ok((String::from_utf8_lossy(&answer).into_owned(), progress))
    }

    /// `specs/vectors/client/proxy-auth.txt`.
    #[test]
    fn captured_request() {
        let mut connect = connect("basic");
        let plain = "CONNECT 10.77.0.1:4443 HTTP/1.1\r\nHost: 10.77.0.1:4443\r\n\
                     User-Agent: Open AnyConnect VPN Agent v9.01-3\r\nProxy-Connection: keep-alive\r\n\
                     Connection: keep-alive\r\nAccept-Encoding: identity\r\n";
        assert_eq!(connect.begin(), format!("{plain}\r\n").as_bytes());
        // The page that comes with the challenge is read before the next request.
        let challenge = "HTTP/1.1 407 Authenticate\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 4\r\n\r\nno";
        assert_eq!(
            input(&mut connect, challenge),
            Ok((String::new(), Progress::More))
        );
        let with = format!("{plain}Proxy-Authorization: Basic dXNAZXI6cDp3\r\n\r\n");
        assert_eq!(input(&mut connect, "no"), Ok((with, Progress::More)));
        assert_eq!(
            input(&mut connect, "HTTP/1.1 200 OK\r\n\r\n"),
            Ok((String::new(), Progress::Open))
        );
        assert!(!connect.has_rest());
    }

    #[test]
    fn a_proxy_that_closes_is_called_again() {
        let mut connect = connect("basic");
        connect.begin();
        let challenge = "HTTP/1.0 407 no\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(
            input(&mut connect, challenge),
            Ok((String::new(), Progress::Reconnect))
        );
        let again = String::from_utf8(connect.begin()).expect("text");
        assert!(again.contains("\r\nProxy-Authorization: Basic "), "{again}");
        assert_eq!(
            input(&mut connect, challenge),
            Err(HttpError::Authentication(AuthError::Exhausted))
        );
    }

    #[test]
    fn an_answer_may_end_with_the_connection() {
        let mut connect = connect("basic");
        connect.begin();
        let challenge = "HTTP/1.0 407 no\r\nProxy-Authenticate: Basic\r\n\r\n<html>";
        assert_eq!(
            input(&mut connect, challenge),
            Ok((String::new(), Progress::More))
        );
        let end = |connect: &mut HttpConnect<'_>| connect.handle_eof([1; 32], SystemTime::UNIX_EPOCH);
        assert_eq!(end(&mut connect), Ok(Some(Progress::Reconnect)));
        connect.begin();
        assert_eq!(end(&mut connect), Ok(None));
    }

    #[test]
    fn refusals_and_endless_challenges() {
        let mut refused = connect("basic");
        refused.begin();
        assert_eq!(
            input(
                &mut refused,
                "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
            ),
            Err(HttpError::Refused(403))
        );
        let mut endless = connect("digest");
        endless.begin();
        let stale = "HTTP/1.1 407 no\r\nProxy-Authenticate: Digest realm=\"r\", nonce=\"n\", stale=true\r\n\
                     Content-Length: 0\r\n\r\n";
        let end = (0..20).find_map(|_| input(&mut endless, stale).err());
        assert_eq!(end, Some(HttpError::TooManyRequests));
    }
}
