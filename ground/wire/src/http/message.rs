use std::fmt;

use super::Headers;

/// Protocol version of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: the connection ends after the answer.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

impl Version {
    /// As written in start lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// A request. Nothing is added when it is written: `Host`, `Content-Length` and the rest are
/// headers like any other, because their order is part of the protocols.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Method, upper case by convention.
    pub method: String,
    /// Request target as sent, e.g. `/auth?x=1`.
    pub target: String,
    /// Version of the request line.
    pub version: Version,
    /// Header lines.
    pub headers: Headers,
    /// Body, decoded from any transfer coding.
    pub body: Vec<u8>,
}

impl Request {
    /// An HTTP/1.1 request without headers and body.
    pub fn new(method: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            version: Version::Http11,
            headers: Headers::new(),
            body: Vec::new(),
        }
    }

    /// The request as it goes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{} {} {}\r\n", self.method, self.target, self.version.as_str()).into_bytes();
        self.headers.write_to(&mut out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

/// Shows no header values and no body: they carry credentials.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("target", &self.target)
            .field("version", &self.version)
            .field("headers", &self.headers)
            .field("body_len", &self.body.len())
            .finish()
    }
}

/// A response. As with [`Request`], nothing is added when it is written.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// Version of the status line.
    pub version: Version,
    /// Status code, 100 to 999.
    pub status: u16,
    /// Reason phrase; some protocols give it a meaning.
    pub reason: String,
    /// Header lines.
    pub headers: Headers,
    /// Body, decoded from any transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// An HTTP/1.1 response without headers and body.
    pub fn new(status: u16, reason: impl Into<String>) -> Self {
        Self {
            version: Version::Http11,
            status,
            reason: reason.into(),
            headers: Headers::new(),
            body: Vec::new(),
        }
    }

    /// The same response with one more header line.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The same response with this body. `Content-Length` stays the caller's business.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// True for status 200.
    pub fn is_success(&self) -> bool {
        self.status == 200
    }

    /// True when the sender ends the connection after this response.
    pub fn closes(&self) -> bool {
        self.version == Version::Http10
            || self.headers.get_all("Connection").any(|value| {
                value
                    .split(',')
                    .any(|option| option.trim().eq_ignore_ascii_case("close"))
            })
    }

    /// The status line without line end, e.g. `HTTP/1.1 200 OK`.
    pub fn status_line(&self) -> String {
        format!("{} {} {}", self.version.as_str(), self.status, self.reason)
    }

    /// The response as it goes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.status_line().into_bytes();
        out.extend_from_slice(b"\r\n");
        self.headers.write_to(&mut out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        out
    }
}

/// Shows no header values and no body: they carry credentials.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("version", &self.version)
            .field("status", &self.status)
            .field("reason", &self.reason)
            .field("headers", &self.headers)
            .field("body_len", &self.body.len())
            .finish()
    }
}
