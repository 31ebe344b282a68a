//! The strict request reader: framing, limits and what must never be accepted.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use culvert_wire::http::{BODY_MAX, HEADERS_MAX, Request, RequestError, RequestReader, Version};
use proptest::prelude::*;

fn read(input: &[u8]) -> Result<Option<Request>, RequestError> {
    RequestReader::new().handle_input(input)
}

fn complete(input: &[u8]) -> Request {
    read(input).expect("acceptable").expect("complete")
}

#[test]
fn headers_keep_order_case_and_repetition() {
    let request = complete(b"POST /auth?x HTTP/1.1\r\nb: 1\r\nB:  2 \r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/auth?x")
    );
    assert_eq!(request.headers.get_all("B").collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(request.headers.iter().next(), Some(("b", "1")));
    assert_eq!(request.body, b"abc");
}

#[test]
fn octet_by_octet_and_two_requests_in_turn() {
    let mut reader = RequestReader::new();
    let text = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    for round in 0..2 {
        for (at, octet) in text.iter().enumerate() {
            let request = reader.handle_input(&[*octet]).expect("acceptable");
            assert_eq!(
                request.is_some(),
                at + 1 == text.len(),
                "round {round}, octet {at}"
            );
            if let Some(request) = request {
                assert_eq!(request.body, b"hi");
            }
        }
    }
}

#[test]
fn http_1_0_and_missing_host() {
    assert_eq!(complete(b"GET / HTTP/1.0\r\n\r\n").version, Version::Http10);
}

#[test]
fn pipelined_requests_are_refused() {
    for text in [
        &b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"[..],
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nab",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        b"CONNECT /CSCOSSLC/tunnel HTTP/1.1\r\n\r\nSTF\x01",
    ] {
        assert_eq!(
            read(text),
            Err(RequestError::Pipelined),
            "{}",
            text.escape_ascii()
        );
    }
}

#[test]
fn smuggling_is_refused() {
    for headers in [
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1, 1",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length:",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
    ] {
        let text = format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n");
        assert_eq!(
            read(text.as_bytes()),
            Err(RequestError::AmbiguousLength),
            "{headers}"
        );
    }
    let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(read(old), Err(RequestError::AmbiguousLength));
    let tunnel = b"CONNECT / HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
    assert_eq!(read(tunnel), Err(RequestError::AmbiguousLength));
}

#[test]
fn malformed_heads_are_refused() {
    for text in [
        &b"GET / HTTP/1.1\nHost: x\n\n"[..],
        b"GET / HTTP/1.1\r\nHost: x\n\r\n",
        b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nA\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\rA: b\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
    ] {
        assert_eq!(
            read(text),
            Err(RequestError::Malformed),
            "{}",
            text.escape_ascii()
        );
    }
}

fn get(target_len: usize, header_len: usize) -> Vec<u8> {
    let target = "u".repeat(target_len - 1);
    let value = "v".repeat(header_len - "Name".len());
    format!("GET /{target} HTTP/1.1\r\nName: {value}\r\n\r\n").into_bytes()
}

#[test]
fn limits_of_url_and_headers() {
    assert!(read(&get(255, 100)).is_ok());
    assert_eq!(read(&get(256, 100)), Err(RequestError::TargetTooLong(255)));
    let longer = |len| RequestReader::with_targets(2048).handle_input(&get(len, HEADERS_MAX));
    assert!(longer(2048).is_ok());
    assert_eq!(longer(2049), Err(RequestError::TargetTooLong(2048)));
    assert!(read(&get(10, HEADERS_MAX)).is_ok());
    assert_eq!(read(&get(10, HEADERS_MAX + 1)), Err(RequestError::HeadersTooLong));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a:b\r\n".repeat(257));
    assert_eq!(read(many.as_bytes()), Err(RequestError::HeadersTooLong));
}

#[test]
fn limits_of_the_body() {
    let post = |len: usize| format!("POST / HTTP/1.1\r\nContent-Length: {len}\r\n\r\n").into_bytes();
    let mut good = post(BODY_MAX);
    good.extend(vec![b'x'; BODY_MAX]);
    assert_eq!(complete(&good).body.len(), BODY_MAX);
    assert_eq!(read(&post(BODY_MAX + 1)), Err(RequestError::BodyTooLong));
    let chunked = format!(
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        BODY_MAX + 1
    );
    assert_eq!(read(chunked.as_bytes()), Err(RequestError::BodyTooLong));
}

#[test]
fn an_endless_head_is_refused_early() {
    for (part, error) in [
        (&b"aaaaaaaaaaaaaaaa"[..], RequestError::TargetTooLong(255)),
        (b"GET / HTTP/1.1\r\n", RequestError::HeadersTooLong),
    ] {
        let mut reader = RequestReader::new();
        let mut fed = 0;
        let refused = loop {
            fed += part.len();
            match reader.handle_input(part) {
                Ok(None) => assert!(fed < 32 * 1024, "unbounded head"),
                Ok(Some(_)) => panic!("no request was sent"),
                Err(refused) => break refused,
            }
        };
        assert_eq!(refused, error);
    }
}

proptest! {
    #[test]
    fn never_panics(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..6)) {
        let mut reader = RequestReader::new();
        for part in parts {
            if reader.handle_input(&part).is_err() {
                break;
            }
        }
    }

    #[test]
    fn what_is_written_is_read(
        target in "/[!-~]{0,40}",
        headers in prop::collection::vec(("X-[A-Za-z-]{1,12}", "[!-~]([ -~]{0,20}[!-~])?"), 0..8),
        body in prop::collection::vec(any::<u8>(), 0..100),
        cut in 0usize..400,
    ) {
        let mut request = Request::new("POST", target);
        request.headers = headers.into_iter().collect();
        request.headers.push("Content-Length", body.len().to_string());
        request.body = body;
        let bytes = request.to_bytes();
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        let mut reader = RequestReader::new();
        let early = reader.handle_input(first).unwrap();
        let read = match early {
            Some(read) => read,
            None => reader.handle_input(second).unwrap().unwrap(),
        };
        prop_assert_eq!(read, request);
    }
}
