/// Longest chunk-size line with its extension, in octets.
const SIZE_LINE_MAX: usize = 256;

/// Why a chunked body was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkError {
    Malformed,
    TooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    SizeLine,
    Data(usize),
    DataEnd,
    LastLine,
    Done,
}

/// Decoder of the chunked transfer coding (RFC 9112 §7.1). Trailers are refused.
#[derive(Debug)]
pub(super) struct ChunkedDecoder {
    state: State,
    line: Vec<u8>,
    body: Vec<u8>,
    limit: usize,
}

impl ChunkedDecoder {
    /// A decoder that refuses bodies above `limit` octets.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: State::SizeLine,
            line: Vec::new(),
            body: Vec::new(),
            limit,
        }
    }

    /// Takes octets of the coding and returns how many of them it used; fewer than given only
    /// after the end of the body.
    pub(super) fn feed(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        let mut rest = input;
        while self.state != State::Done && !rest.is_empty() {
            match self.state {
                State::Data(left) => {
                    let (chunk, after) = rest.split_at(left.min(rest.len()));
                    self.body.extend_from_slice(chunk);
                    rest = after;
                    let left = left - chunk.len();
                    self.state = if left == 0 {
                        State::DataEnd
                    } else {
                        State::Data(left)
                    };
                }
                _ => {
                    let Some(line) = self.take_line(&mut rest)? else {
                        break;
                    };
                    self.state = self.after_line(&line)?;
                }
            }
        }
        Ok(input.len() - rest.len())
    }

    /// The body, once its end has been seen.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        (self.state == State::Done).then(|| std::mem::take(&mut self.body))
    }

    fn take_line(&mut self, rest: &mut &[u8]) -> Result<Option<Vec<u8>>, ChunkError> {
        let end = rest.iter().position(|&b| b == b'\n');
        let (part, after) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
        *rest = after;
        self.line.extend_from_slice(part);
        if self.line.len() > SIZE_LINE_MAX {
            return Err(ChunkError::Malformed);
        }
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        if !line.ends_with(b"\r\n") {
            return Err(ChunkError::Malformed);
        }
        line.truncate(line.len() - 2);
        Ok(Some(line))
    }

    fn after_line(&mut self, line: &[u8]) -> Result<State, ChunkError> {
        match self.state {
            State::SizeLine => {
                let size = parse_size(line)?;
                if size > self.limit.saturating_sub(self.body.len()) {
                    return Err(ChunkError::TooLong);
                }
                Ok(if size == 0 {
                    State::LastLine
                } else {
                    State::Data(size)
                })
            }
            State::DataEnd if line.is_empty() => Ok(State::SizeLine),
            State::LastLine if line.is_empty() => Ok(State::Done),
            _ => Err(ChunkError::Malformed),
        }
    }
}

fn parse_size(line: &[u8]) -> Result<usize, ChunkError> {
    let digits = line
        .split(|&b| b == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii_end();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(ChunkError::Malformed);
    }
    let text = std::str::from_utf8(digits).map_err(|_| ChunkError::Malformed)?;
    usize::from_str_radix(text, 16).map_err(|_| ChunkError::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &[u8]) -> Result<Option<Vec<u8>>, ChunkError> {
        let mut decoder = ChunkedDecoder::new(100);
        decoder.feed(input)?;
        Ok(decoder.finish())
    }

    #[test]
    fn extensions_and_trailing_blanks() {
        assert_eq!(
            decode(b"3;x=y\r\nabc\r\n2  \r\nde\r\n0\r\n\r\n"),
            Ok(Some(b"abcde".to_vec()))
        );
    }

    #[test]
    fn one_octet_at_a_time() {
        let mut decoder = ChunkedDecoder::new(100);
        for octet in b"3\r\nabc\r\n0\r\n\r\n" {
            assert_eq!(decoder.feed(&[*octet]), Ok(1));
        }
        assert_eq!(decoder.feed(b"next"), Ok(0));
        assert_eq!(decoder.finish(), Some(b"abc".to_vec()));
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            &b"-1\r\n"[..],
            b"\r\n",
            b"+3\r\nabc\r\n",
            b"0x3\r\nabc\r\n",
            b"3\nabc\r\n",
            b"3\r\nabcd\r\n",
            b"0\r\nTrailer: x\r\n\r\n",
        ] {
            assert_eq!(decode(bad), Err(ChunkError::Malformed), "{}", bad.escape_ascii());
        }
        for long in [&b"65\r\n"[..], b"ffffffffffffffff\r\n", b"fffffffffffffffff\r\n"] {
            assert_eq!(decode(long), Err(ChunkError::TooLong), "{}", long.escape_ascii());
        }
        assert_eq!(decode(b"5\r\nab"), Ok(None));
    }
}
