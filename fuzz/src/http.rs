use std::time::SystemTime;

use culvert_http_auth::{Authenticator, Circumstances, Credentials, Schemes, SignOn, SignOnError};
use culvert_wire::http::{Request, RequestReader, Response, ResponseReader};
use zeroize::Zeroizing;

/// The request in these octets, as a server reads it: in pieces.
pub(crate) fn read_request(data: &[u8]) -> Option<Request> {
    let mut reader = RequestReader::new();
    for piece in data.chunks(1000) {
        if let Some(request) = reader.handle_input(piece).ok()? {
            return Some(request);
        }
    }
    None
}

/// The response in these octets, as a client reads it: in pieces, until the end of the stream.
pub(crate) fn read_response(data: &[u8]) -> Option<Response> {
    let mut reader = ResponseReader::new("POST");
    for piece in data.chunks(1000) {
        if let Some(response) = reader.handle_input(piece).ok()? {
            return Some(response);
        }
    }
    reader.handle_eof().ok()
}

pub(crate) fn request(data: &[u8]) {
    if let Some(request) = read_request(data) {
        // What was read can be written, and is read as the same.
        let again = read_request(&request.to_bytes());
        if let Some(again) = again {
            assert_eq!((again.method, again.target), (request.method, request.target));
        }
    }
}

pub(crate) fn response(data: &[u8]) {
    if let Some(response) = read_response(data) {
        let _ = (response.closes(), response.status_line(), response.to_bytes());
    }
}

/// Says what the other side said.
#[derive(Debug)]
struct Echo;

impl SignOn for Echo {
    fn answer(&mut self, challenge: Option<&[u8]>) -> Result<Zeroizing<Vec<u8>>, SignOnError> {
        Ok(Zeroizing::new(challenge.unwrap_or_default().to_vec()))
    }
}

/// Challenges of a server or proxy: one header value per part.
pub(crate) fn authentication(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let challenges: Vec<&str> = text.split('\n').take(8).collect();
    let credentials = Credentials {
        user: "user".into(),
        password: "password".into(),
    };
    let schemes = Schemes::parse("negotiate,basic,digest,ntlm,bearer");
    let mut authenticator =
        Authenticator::new(schemes, Some(credentials), Some("token".into())).with_ticket(Echo);
    for _ in 0..3 {
        let circumstances = Circumstances {
            method: "GET",
            uri: "/",
            random: [7; 32],
            now: SystemTime::UNIX_EPOCH,
        };
        let _ = authenticator.answer(challenges.iter().copied(), &circumstances);
    }
}
