//! The tolerant response reader: what real gateways send, and the limits.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use culvert_wire::http::{Response, ResponseError, ResponseReader, Version};
use proptest::prelude::*;

fn read(input: &[u8]) -> Result<Option<Response>, ResponseError> {
    ResponseReader::new("GET").handle_input(input)
}

fn complete(input: &[u8]) -> Response {
    read(input).expect("acceptable").expect("complete")
}

#[test]
fn length_chunks_and_until_close() {
    assert_eq!(
        complete(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab").body,
        b"ab"
    );
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2 \r\nab\r\n1;x\r\nc\r\n0\r\n\r\n";
    assert_eq!(complete(chunked).body, b"abc");
    for head in [
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ] {
        let mut reader = ResponseReader::new("GET");
        assert_eq!(reader.handle_input(format!("{head}ab").as_bytes()), Ok(None));
        assert_eq!(reader.handle_input(b"c"), Ok(None));
        let response = reader.handle_eof().expect("ends with the connection");
        assert_eq!(response.body, b"abc");
        assert!(response.closes());
    }
}

#[test]
fn tolerated_oddities() {
    let response = complete(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\nno colon here\nA:  two blanks\n folded\nContent-Length:0\n\n",
    );
    assert_eq!((response.status, response.reason.as_str()), (200, ""));
    assert_eq!(response.headers.get("a"), Some(" two blanks folded"));
    assert_eq!(response.headers.len(), 2);
    let twice = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(complete(twice).body, b"x");
    let empty = complete(b"HTTP/1.1 204 No Content\r\n\r\n");
    assert!(empty.body.is_empty());
}

#[test]
fn connect_ends_with_the_head() {
    let mut reader = ResponseReader::new("CONNECT");
    let response = reader
        .handle_input(b"HTTP/1.1 200 CONNECTED\r\nX-CSTP-MTU: 1\r\n\r\nSTF\x01")
        .unwrap()
        .unwrap();
    assert_eq!(response.status_line(), "HTTP/1.1 200 CONNECTED");
    assert_eq!(reader.take_rest(), b"STF\x01");
    let mut reader = ResponseReader::new("CONNECT");
    let refused = reader
        .handle_input(b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
        .unwrap()
        .unwrap();
    assert_eq!(refused.status, 503);
}

#[test]
fn closing() {
    assert!(!complete(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").closes());
    assert!(complete(b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n").closes());
    assert!(complete(b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n").closes());
    assert_eq!(
        complete(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").version,
        Version::Http10
    );
}

#[test]
fn refused() {
    let status = |line: &str| Err(ResponseError::StatusLine(line.into()));
    assert_eq!(read(b"SSH-2.0-x\r\n"), status("SSH-2.0-x"));
    assert_eq!(read(b"HTTP/1.1 99 x\r\n"), status("HTTP/1.1 99 x"));
    assert_eq!(read(b"HTTP/1.1 2\x1b0 x\r\n"), status("HTTP/1.1 2?0 x"));
    assert_eq!(read(b"HTTP/1.1 200 OK\r\n\r\n"), Err(ResponseError::NoLength));
    for length in ["-1", "x", "", "1 1"] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        assert!(
            matches!(read(text.as_bytes()), Err(ResponseError::Length(_))),
            "{length}"
        );
    }
    let disagree = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(read(disagree), Err(ResponseError::Length("2".into())));
    let coded = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n";
    assert_eq!(read(coded), Err(ResponseError::Coding("gzip".into())));
    let chunk = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n";
    assert_eq!(read(chunk), Err(ResponseError::Chunk));
}

#[test]
fn truncated() {
    for text in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na",
    ] {
        let mut reader = ResponseReader::new("GET");
        assert_eq!(reader.handle_input(text.as_bytes()), Ok(None));
        assert_eq!(reader.has_input(), !text.is_empty());
        assert_eq!(reader.handle_eof(), Err(ResponseError::Truncated));
    }
}

#[test]
fn limits() {
    let long_line = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(65 * 1024));
    assert_eq!(read(long_line.as_bytes()), Err(ResponseError::HeadTooLong));
    let long_head = format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        format!("A: {}\r\n", "x".repeat(60_000)).repeat(5)
    );
    assert_eq!(read(long_head.as_bytes()), Err(ResponseError::HeadTooLong));
    for length in ["16777217", "99999999999999999999999"] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(read(text.as_bytes()), Err(ResponseError::BodyTooLong));
    }
    assert_eq!(
        read(&b"HTTP/1.1 100 Continue\r\n\r\n".repeat(17)),
        Err(ResponseError::HeadTooLong)
    );
    let mut endless = ResponseReader::new("GET");
    endless.handle_input(b"HTTP/1.0 200 OK\r\n\r\n").unwrap();
    let block = vec![0; 1 << 20];
    let refused = (0..17).find_map(|_| endless.handle_input(&block).err());
    assert_eq!(refused, Some(ResponseError::BodyTooLong));
}

proptest! {
    #[test]
    fn never_panics(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..6)) {
        let mut reader = ResponseReader::new("GET");
        reader.handle_input(b"HTTP/1.1 200 OK\r\n").unwrap();
        for part in parts {
            if reader.handle_input(&part).is_err() {
                break;
            }
        }
        let _ = reader.handle_eof();
    }

    #[test]
    fn what_is_written_is_read(
        status in 200u16..1000,
        headers in prop::collection::vec(("X-[A-Za-z-]{1,12}", "[!-~]([ -~]{0,20}[!-~])?"), 0..8),
        body in prop::collection::vec(any::<u8>(), 1..100),
    ) {
        prop_assume!(status != 204 && status != 304);
        let mut response = Response::new(status, "Reason here").with_body(body);
        response.headers = headers.into_iter().collect();
        response.headers.push("Content-Length", response.body.len().to_string());
        prop_assert_eq!(read(&response.to_bytes()), Ok(Some(response)));
    }
}
