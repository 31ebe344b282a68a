//! Shared by the tests: the captured exchanges as messages.
#![allow(dead_code, reason = "each test program uses a part")]

use culvert_wire::http::{Headers, Request, RequestReader, Response, ResponseReader};

/// One exchange of a capture: the request and the response to it.
pub(crate) struct Captured {
    pub(crate) request: Request,
    pub(crate) response: Response,
}

/// Exchanges of a capture with `> ` and `< ` prefixed lines.
pub(crate) fn prefixed(capture: &str) -> Vec<Captured> {
    let mut exchanges = Vec::new();
    let (mut request, mut response) = (String::new(), String::new());
    let mut flush = |request: &mut String, response: &mut String| {
        if !request.is_empty() {
            exchanges.push(Captured {
                request: read_request(request),
                response: read_response(response),
            });
            request.clear();
            response.clear();
        }
    };
    for line in capture.lines() {
        if let Some(text) = line.strip_prefix('>') {
            if !response.is_empty() {
                flush(&mut request, &mut response);
            }
            push_line(&mut request, text);
        } else if let Some(text) = line.strip_prefix('<') {
            push_line(&mut response, text);
        }
    }
    flush(&mut request, &mut response);
    exchanges
}

/// Exchanges of one section of `http-client-flows.txt`; the bool says whether the request came on
/// a new connection.
pub(crate) fn flow(capture: &str, section: &str) -> Vec<(bool, Captured)> {
    let title = format!("=================== {section}:");
    let start = capture
        .find(&title)
        .unwrap_or_else(|| panic!("no section {section}"));
    let text = &capture[start + title.len()..];
    let text = text.split("\n===================").next().unwrap_or_default();
    let mut exchanges = Vec::new();
    let mut fresh = false;
    let mut request = String::new();
    let mut message: Option<(bool, String)> = None;
    let mut done = |message: Option<(bool, String)>, request: &mut String, fresh: &mut bool| match message {
        Some((true, text)) => *request = text,
        Some((false, text)) => {
            let captured = Captured {
                request: read_request(request),
                response: read_response(&text),
            };
            exchanges.push((std::mem::take(fresh), captured));
        }
        None => {}
    };
    for line in text.lines() {
        if let Some(first) = line.strip_prefix(">>> ") {
            done(message.take(), &mut request, &mut fresh);
            message = Some((true, format!("{first}\r\n")));
        } else if let Some(first) = line.strip_prefix("<<< ") {
            done(message.take(), &mut request, &mut fresh);
            message = Some((false, format!("{first}\r\n")));
        } else if line.starts_with("---") {
            done(message.take(), &mut request, &mut fresh);
            fresh |= line.starts_with("--- new connection");
        } else if let Some((_, text)) = &mut message {
            // Bodies follow the headers without a blank line.
            if line.starts_with('<') && !text.contains("\r\n\r\n") || line.starts_with("username=") {
                text.push_str("\r\n");
            }
            if text.contains("\r\n\r\n") {
                text.push_str(line);
                text.push('\n');
            } else {
                push_line(text, line);
            }
        }
    }
    done(message.take(), &mut request, &mut fresh);
    exchanges
}

fn push_line(message: &mut String, line: &str) {
    let line = line.strip_prefix(' ').unwrap_or(line);
    let in_body = message.contains("\r\n\r\n");
    message.push_str(line);
    message.push_str(if in_body { "\n" } else { "\r\n" });
}

/// Heads in the captures may lack their last empty line, bodies have odd numbers of line ends:
/// both are mended here.
fn split(text: &str) -> (String, String) {
    match text.split_once("\r\n\r\n") {
        Some((head, body)) => (format!("{head}\r\n\r\n"), body.to_owned()),
        None => (format!("{}\r\n\r\n", text.trim_end()), String::new()),
    }
}

fn fit(headers: &Headers, mut body: String) -> Vec<u8> {
    let len = headers
        .get("Content-Length")
        .and_then(|len| len.parse().ok())
        .unwrap_or(0);
    while body.len() < len {
        body.push('\n');
    }
    body.truncate(len);
    body.into_bytes()
}

fn read_request(text: &str) -> Request {
    let (head, body) = split(text);
    let headers = headers_of(&head);
    let mut bytes = head.into_bytes();
    bytes.extend(fit(&headers, body));
    RequestReader::new()
        .handle_input(&bytes)
        .expect("a captured request")
        .expect("complete")
}

fn read_response(text: &str) -> Response {
    let (head, body) = split(text);
    let mut response = ResponseReader::new("CONNECT")
        .handle_input(head.as_bytes())
        .expect("a captured response")
        .expect("complete");
    response.body = fit(&response.headers, body);
    response
}

fn headers_of(head: &str) -> Headers {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .collect()
}
