use super::chunked::{ChunkError, ChunkedDecoder};
use super::{Headers, Response, Version};

/// Longest line of a head, in octets (`specs/client.md` §10.2).
const LINE_MAX: usize = 64 * 1024;
/// Most octets of a head.
const HEAD_MAX: usize = 256 * 1024;
/// Longest body, in octets.
const BODY_MAX: usize = 16 * 1024 * 1024;
/// Most `100 Continue` answers before the real one.
const CONTINUES_MAX: usize = 16;

/// Why a response could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The first line is not a status line of HTTP/1.0 or 1.1.
    #[error("Failed to parse HTTP response '{0}'")]
    StatusLine(String),
    /// A line above 64 KiB or a head above 256 KiB.
    #[error("HTTP response headers are too long")]
    HeadTooLong,
    /// A body above 16 MiB.
    #[error("HTTP response body is longer than {BODY_MAX} octets")]
    BodyTooLong,
    /// `Content-Length` is no number, or several lines disagree.
    #[error("Response body has bad length '{0}'")]
    Length(String),
    /// `Transfer-Encoding` other than `chunked`.
    #[error("Unknown Transfer-Encoding: {0}")]
    Coding(String),
    /// The chunked coding is broken.
    #[error("Error in chunked decoding of the HTTP response body")]
    Chunk,
    /// Neither length nor closing connection tells where the body ends.
    #[error("Cannot receive HTTP 1.0 body without closing connection")]
    NoLength,
    /// The connection ended inside the response.
    #[error("the connection was closed in the middle of the HTTP response")]
    Truncated,
}

impl From<ChunkError> for ResponseError {
    fn from(error: ChunkError) -> Self {
        match error {
            ChunkError::Malformed => Self::Chunk,
            ChunkError::TooLong => Self::BodyTooLong,
        }
    }
}

#[derive(Debug)]
enum State {
    StatusLine,
    Headers(Response),
    Sized {
        response: Response,
        len: usize,
    },
    Chunked {
        response: Response,
        decoder: ChunkedDecoder,
    },
    UntilClose(Response),
    Done,
}

/// Whether a body follows the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Never,
    AfterRefusal,
    AsTheHeadSays,
}

/// Reader of one response, tolerant where real gateways need it: line ends without CR, folded
/// headers, lines without colon, bodies that end with the connection.
#[derive(Debug)]
pub struct ResponseReader {
    state: State,
    body: Body,
    buffer: Vec<u8>,
    head_len: usize,
    continues: usize,
    touched: bool,
}

impl ResponseReader {
    /// A reader for the answer of a gateway to a request with this method. After `CONNECT` and
    /// `HEAD` there is no body, not even after a refusal: what follows the head is left to
    /// [`Self::take_rest`].
    pub fn new(request_method: &str) -> Self {
        Self::expecting(match request_method {
            "CONNECT" | "HEAD" => Body::Never,
            _ => Body::AsTheHeadSays,
        })
    }

    /// A reader for the answer of a proxy to `CONNECT`: only a success has no body (RFC 9110
    /// §9.3.6).
    pub fn for_proxy() -> Self {
        Self::expecting(Body::AfterRefusal)
    }

    fn expecting(body: Body) -> Self {
        Self {
            state: State::StatusLine,
            body,
            buffer: Vec::new(),
            head_len: 0,
            continues: 0,
            touched: false,
        }
    }

    /// True once any octet has been received: the request must then not be repeated silently.
    pub fn has_input(&self) -> bool {
        self.touched
    }

    /// Takes the next octets of the stream and returns the response once it is complete.
    ///
    /// # Errors
    /// See [`ResponseError`]; the connection is of no further use.
    pub fn handle_input(&mut self, input: &[u8]) -> Result<Option<Response>, ResponseError> {
        self.touched |= !input.is_empty();
        self.buffer.extend_from_slice(input);
        while matches!(self.state, State::StatusLine | State::Headers(_)) {
            let Some(line) = self.take_line()? else {
                return Ok(None);
            };
            self.handle_line(&line)?;
        }
        self.read_body()
    }

    /// The connection has ended: completes a body that lasts until then.
    ///
    /// # Errors
    /// [`ResponseError::Truncated`] anywhere else.
    pub fn handle_eof(&mut self) -> Result<Response, ResponseError> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::UntilClose(response) => Ok(response),
            _ => Err(ResponseError::Truncated),
        }
    }

    /// Octets received after the end of the response.
    pub fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    fn take_line(&mut self) -> Result<Option<String>, ResponseError> {
        let Some(end) = self.buffer.iter().position(|&b| b == b'\n') else {
            return if self.buffer.len() > LINE_MAX {
                Err(ResponseError::HeadTooLong)
            } else {
                Ok(None)
            };
        };
        self.head_len += end + 1;
        if end > LINE_MAX || self.head_len > HEAD_MAX {
            return Err(ResponseError::HeadTooLong);
        }
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        let line = line.strip_suffix(b"\n").unwrap_or(&line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some(String::from_utf8_lossy(line).into_owned()))
    }

    fn handle_line(&mut self, line: &str) -> Result<(), ResponseError> {
        match &mut self.state {
            State::StatusLine => {
                let response =
                    parse_status_line(line).ok_or_else(|| ResponseError::StatusLine(excerpt(line)))?;
                self.state = State::Headers(response);
            }
            State::Headers(response) if line.is_empty() => {
                let response = std::mem::replace(response, Response::new(0, ""));
                self.end_head(response)?;
            }
            State::Headers(response) => add_header_line(&mut response.headers, line),
            _ => {}
        }
        Ok(())
    }

    fn end_head(&mut self, response: Response) -> Result<(), ResponseError> {
        if response.status == 100 {
            self.continues += 1;
            if self.continues > CONTINUES_MAX {
                return Err(ResponseError::HeadTooLong);
            }
            self.state = State::StatusLine;
            return Ok(());
        }
        let bodyless = match self.body {
            Body::Never => true,
            Body::AfterRefusal => (200..300).contains(&response.status),
            Body::AsTheHeadSays => matches!(response.status, 204 | 304),
        };
        self.state = if bodyless {
            State::Sized { response, len: 0 }
        } else if let Some(coding) = response.headers.get("Transfer-Encoding") {
            if !coding.eq_ignore_ascii_case("chunked") {
                return Err(ResponseError::Coding(excerpt(coding)));
            }
            State::Chunked {
                response,
                decoder: ChunkedDecoder::new(BODY_MAX),
            }
        } else if let Some(len) = content_length(&response.headers)? {
            State::Sized { response, len }
        } else if response.closes() {
            State::UntilClose(response)
        } else {
            return Err(ResponseError::NoLength);
        };
        Ok(())
    }

    fn read_body(&mut self) -> Result<Option<Response>, ResponseError> {
        let complete = match &mut self.state {
            State::Sized { response, len } => {
                let missing = (*len - response.body.len()).min(self.buffer.len());
                response.body.extend(self.buffer.drain(..missing));
                response.body.len() == *len
            }
            State::Chunked { response, decoder } => {
                let used = decoder.feed(&self.buffer)?;
                self.buffer.drain(..used);
                match decoder.finish() {
                    Some(body) => {
                        response.body = body;
                        true
                    }
                    None => false,
                }
            }
            State::UntilClose(response) => {
                response.body.append(&mut self.buffer);
                if response.body.len() > BODY_MAX {
                    return Err(ResponseError::BodyTooLong);
                }
                false
            }
            State::StatusLine | State::Headers(_) | State::Done => false,
        };
        if !complete {
            return Ok(None);
        }
        match std::mem::replace(&mut self.state, State::Done) {
            State::Sized { response, .. } | State::Chunked { response, .. } => Ok(Some(response)),
            _ => Ok(None),
        }
    }
}

fn parse_status_line(line: &str) -> Option<Response> {
    let (version, rest) = if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
        (Version::Http11, rest)
    } else {
        (Version::Http10, line.strip_prefix("HTTP/1.0 ")?)
    };
    let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = code.parse().ok().filter(|status| (100..1000).contains(status))?;
    let mut response = Response::new(status, reason);
    response.version = version;
    Some(response)
}

fn add_header_line(headers: &mut Headers, line: &str) {
    if line.starts_with([' ', '\t']) && headers.append_to_last(line.trim()) {
        return;
    }
    if let Some((name, value)) = line.split_once(':') {
        headers.push(
            name.trim_end(),
            value.strip_prefix(' ').unwrap_or(value).trim_end(),
        );
    }
}

fn content_length(headers: &Headers) -> Result<Option<usize>, ResponseError> {
    let mut length = None;
    for text in headers.get_all("Content-Length") {
        let bad = || ResponseError::Length(excerpt(text));
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(bad());
        }
        let value: usize = text.parse().map_err(|_| ResponseError::BodyTooLong)?;
        if value > BODY_MAX {
            return Err(ResponseError::BodyTooLong);
        }
        if length.is_some_and(|earlier| earlier != value) {
            return Err(bad());
        }
        length = Some(value);
    }
    Ok(length)
}

/// The start of a text of the peer, fit for one line of a message.
fn excerpt(text: &str) -> String {
    text.chars()
        .take(80)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
