use super::chunked::{ChunkError, ChunkedDecoder};
use super::{Headers, Request, Version};

/// Longest request target, in octets (`specs/anyconnect.md` §5).
pub const TARGET_MAX: usize = 255;
/// Most octets of header names and values together.
pub const HEADERS_MAX: usize = 16384;
/// Longest body, in octets.
pub const BODY_MAX: usize = 262_144;

/// Most header lines of one request.
const HEADER_LINES_MAX: usize = 256;
/// Room for a head within the other limits: start line, separators, line ends.
const HEAD_REST_MAX: usize = HEADERS_MAX + 64 + 4 * HEADER_LINES_MAX;

/// Why a request was refused. A server answers none of these: it closes the connection
/// (`specs/anyconnect.md` §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not an HTTP/1.x request head; also a line end without CR, or a folded header.
    #[error("malformed HTTP request")]
    Malformed,
    /// More than so many octets of URL.
    #[error("request URL longer than {0} octets")]
    TargetTooLong(usize),
    /// Header names and values above [`HEADERS_MAX`] octets, or too many lines.
    #[error("request headers longer than {HEADERS_MAX} octets")]
    HeadersTooLong,
    /// Body above [`BODY_MAX`] octets.
    #[error("request body longer than {BODY_MAX} octets")]
    BodyTooLong,
    /// `Content-Length` repeated or unreadable, together with `Transfer-Encoding`, or a coding
    /// other than `chunked`: the end of the body would be a matter of opinion.
    #[error("ambiguous length of the request body")]
    AmbiguousLength,
    /// A further request (or other octets) came together with the end of this one.
    #[error("more data after the end of the request")]
    Pipelined,
}

impl From<ChunkError> for RequestError {
    fn from(error: ChunkError) -> Self {
        match error {
            ChunkError::Malformed => Self::Malformed,
            ChunkError::TooLong => Self::BodyTooLong,
        }
    }
}

#[derive(Debug)]
enum State {
    Head,
    Body {
        request: Request,
        len: usize,
    },
    Chunked {
        request: Request,
        decoder: ChunkedDecoder,
    },
}

/// Strict reader of requests on one connection. It holds at most one request and refuses
/// everything whose end could be read in two ways.
#[derive(Debug)]
pub struct RequestReader {
    target_max: usize,
    state: State,
    buffer: Vec<u8>,
}

impl Default for RequestReader {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestReader {
    /// A reader at the start of a connection.
    pub fn new() -> Self {
        Self::with_targets(TARGET_MAX)
    }

    /// The same for URLs of at most `max` octets.
    pub fn with_targets(max: usize) -> Self {
        Self {
            target_max: max,
            state: State::Head,
            buffer: Vec::new(),
        }
    }

    /// Takes the next octets of the stream and returns the request that they complete, if any.
    ///
    /// # Errors
    /// See [`RequestError`]; the connection must be closed without an answer.
    pub fn handle_input(&mut self, input: &[u8]) -> Result<Option<Request>, RequestError> {
        if !matches!(self.state, State::Head) {
            return self.read_body(input);
        }
        // A head in progress never needs more than this, whatever the size of the input.
        let searched = self.buffer.len().saturating_sub(3);
        self.buffer.extend_from_slice(input);
        let Some(end) = find(&self.buffer[searched..], b"\r\n\r\n").map(|at| searched + at + 4) else {
            check_unfinished_head(&self.buffer, self.target_max)?;
            return Ok(None);
        };
        let body = self.buffer.split_off(end);
        let head = std::mem::take(&mut self.buffer);
        if head.len() > HEAD_REST_MAX + self.target_max {
            return Err(RequestError::HeadersTooLong);
        }
        let request = parse_head(&head, self.target_max)?;
        self.state = match body_length(&request)? {
            BodyLength::Known(len) => State::Body { request, len },
            BodyLength::Chunked => State::Chunked {
                request,
                decoder: ChunkedDecoder::new(BODY_MAX),
            },
        };
        self.read_body(&body)
    }

    fn read_body(&mut self, input: &[u8]) -> Result<Option<Request>, RequestError> {
        let complete = match &mut self.state {
            State::Head => false,
            State::Body { request, len } => {
                if input.len() > *len - request.body.len() {
                    return Err(RequestError::Pipelined);
                }
                request.body.extend_from_slice(input);
                request.body.len() == *len
            }
            State::Chunked { request, decoder } => {
                let used = decoder.feed(input)?;
                if used < input.len() {
                    return Err(RequestError::Pipelined);
                }
                match decoder.finish() {
                    Some(body) => {
                        request.body = body;
                        true
                    }
                    None => false,
                }
            }
        };
        if !complete {
            return Ok(None);
        }
        match std::mem::replace(&mut self.state, State::Head) {
            State::Body { request, .. } | State::Chunked { request, .. } => Ok(Some(request)),
            State::Head => Ok(None),
        }
    }
}

enum BodyLength {
    Known(usize),
    Chunked,
}

fn body_length(request: &Request) -> Result<BodyLength, RequestError> {
    let mut lengths = request.headers.get_all("Content-Length");
    let mut codings = request.headers.get_all("Transfer-Encoding");
    let length = match (lengths.next(), lengths.next(), codings.next(), codings.next()) {
        (None, None, None, None) => BodyLength::Known(0),
        (Some(length), None, None, None) => BodyLength::Known(parse_length(length)?),
        (None, None, Some(coding), None)
            if coding.eq_ignore_ascii_case("chunked") && request.version == Version::Http11 =>
        {
            BodyLength::Chunked
        }
        _ => return Err(RequestError::AmbiguousLength),
    };
    let has_body = !matches!(length, BodyLength::Known(0));
    if has_body && request.method == "CONNECT" {
        return Err(RequestError::AmbiguousLength);
    }
    Ok(length)
}

fn parse_length(text: &str) -> Result<usize, RequestError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(RequestError::AmbiguousLength);
    }
    match text.parse() {
        Ok(len) if len <= BODY_MAX => Ok(len),
        _ => Err(RequestError::BodyTooLong),
    }
}

fn parse_head(head: &[u8], target_max: usize) -> Result<Request, RequestError> {
    if has_bare_line_end(head) {
        return Err(RequestError::Malformed);
    }
    let mut lines = vec![httparse::EMPTY_HEADER; HEADER_LINES_MAX];
    let mut parsed = httparse::Request::new(&mut lines);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(RequestError::HeadersTooLong),
        Ok(httparse::Status::Partial) | Err(_) => return Err(RequestError::Malformed),
    }
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(RequestError::Malformed);
    };
    if target.len() > target_max {
        return Err(RequestError::TargetTooLong(target_max));
    }
    let mut request = Request::new(method, target);
    request.version = if version == 0 {
        Version::Http10
    } else {
        Version::Http11
    };
    request.headers = parse_headers(parsed.headers)?;
    Ok(request)
}

fn parse_headers(lines: &[httparse::Header<'_>]) -> Result<Headers, RequestError> {
    let mut total = 0;
    let mut headers = Headers::new();
    for line in lines {
        total += line.name.len() + line.value.len();
        if total > HEADERS_MAX {
            return Err(RequestError::HeadersTooLong);
        }
        headers.push(line.name, String::from_utf8_lossy(line.value));
    }
    Ok(headers)
}

/// Limits that can be judged before the head is complete, so that a slow or endless head does
/// not occupy more memory than a good one.
fn check_unfinished_head(head: &[u8], target_max: usize) -> Result<(), RequestError> {
    if has_bare_line_end(head) {
        return Err(RequestError::Malformed);
    }
    let start_line_ends = head.contains(&b'\n');
    if !start_line_ends && head.len() > target_max + 64 {
        return Err(RequestError::TargetTooLong(target_max));
    }
    if head.len() > HEAD_REST_MAX + target_max {
        return Err(RequestError::HeadersTooLong);
    }
    Ok(())
}

fn has_bare_line_end(head: &[u8]) -> bool {
    head.iter().enumerate().any(|(at, &octet)| match octet {
        b'\n' => at == 0 || head.get(at - 1) != Some(&b'\r'),
        b'\r' => head.get(at + 1).is_some_and(|&next| next != b'\n'),
        _ => false,
    })
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
