//! What a recorded handshake says (RFC 8446 §4, RFC 5246 §7.4).

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;

use super::ClientProof;

const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const ENCRYPTED_EXTENSIONS: u8 = 8;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_REQUEST: u8 = 13;
const SERVER_HELLO_DONE: u8 = 14;
const CERTIFICATE_VERIFY: u8 = 15;
const CLIENT_KEY_EXCHANGE: u8 = 16;
const FINISHED: u8 = 20;
const CERTIFICATE_STATUS: u8 = 22;
const MESSAGE_HASH: u8 = 254;

/// Most certificates of a chain.
const CHAIN_MAX: usize = 10;
/// Before the hash in what a client signs in TLS 1.3.
const TLS13_CONTEXT: &[u8] = b"TLS 1.3, client CertificateVerify\0";
const TLS_AES_256_GCM_SHA384: u16 = 0x1302;
/// The named curve and point length before the point of a ServerKeyExchange; then the scheme and
/// length of the signature.
const CURVE_LEN: usize = 3;

/// The transcript is not a handshake that ends in a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed proof of a client certificate")]
pub struct MalformedProof;

/// The parts of a [`ClientProof`] that matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenHandshake {
    /// What the client's signature covers.
    pub signed: Vec<u8>,
    /// The client's certificates, its own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The server's signature in the handshake.
    pub server_signature: Vec<u8>,
}

impl ClientProof {
    /// Takes the handshake apart.
    ///
    /// # Errors
    /// The messages are not those of a handshake, in their order, up to the point where the
    /// client signs.
    pub fn handshake(&self) -> Result<ProvenHandshake, MalformedProof> {
        let messages = split(&self.transcript)?;
        if self.tls13 {
            tls13(&messages, &self.transcript)
        } else {
            tls12(&messages, &self.transcript)
        }
    }
}

struct Message<'a> {
    kind: u8,
    body: &'a [u8],
}

fn split(mut transcript: &[u8]) -> Result<Vec<Message<'_>>, MalformedProof> {
    let mut messages = Vec::new();
    while let Some((kind, rest)) = transcript.split_first() {
        let (body, rest) = take(rest, 3)?;
        messages.push(Message { kind: *kind, body });
        transcript = rest;
    }
    Ok(messages)
}

/// A field with a length of `width` octets before it, and what follows.
fn take(bytes: &[u8], width: usize) -> Result<(&[u8], &[u8]), MalformedProof> {
    let (length, rest) = bytes.split_at_checked(width).ok_or(MalformedProof)?;
    let length = length
        .iter()
        .fold(0usize, |length, octet| length << 8 | usize::from(*octet));
    rest.split_at_checked(length).ok_or(MalformedProof)
}

fn tls13(messages: &[Message<'_>], transcript: &[u8]) -> Result<ProvenHandshake, MalformedProof> {
    // After a HelloRetryRequest, which is a ServerHello, too, the first ClientHello is a hash.
    let retried = messages.first().is_some_and(|first| first.kind == MESSAGE_HASH);
    let messages = messages
        .get(if retried { 2 } else { 0 }..)
        .ok_or(MalformedProof)?;
    let kinds: Vec<u8> = messages.iter().map(|message| message.kind).collect();
    if kinds
        != [
            CLIENT_HELLO,
            SERVER_HELLO,
            ENCRYPTED_EXTENSIONS,
            CERTIFICATE_REQUEST,
            CERTIFICATE,
            CERTIFICATE_VERIFY,
            FINISHED,
            CERTIFICATE,
        ]
    {
        return Err(MalformedProof);
    }
    let [_, hello, _, _, _, verify, _, certificate] = messages else {
        return Err(MalformedProof);
    };
    let hash = match suite_of(hello.body)? {
        TLS_AES_256_GCM_SHA384 => &digest::SHA384,
        _ => &digest::SHA256,
    };
    let signed = [
        &[b' '; 64][..],
        TLS13_CONTEXT,
        digest::digest(hash, transcript).as_ref(),
    ]
    .concat();
    let scheme_and_signature = verify.body.get(2..).ok_or(MalformedProof)?;
    let (signature, _) = take(scheme_and_signature, 2)?;
    let (_context, list) = take(certificate.body, 1)?;
    Ok(ProvenHandshake {
        signed,
        chain: chain(list, true)?,
        server_signature: signature.to_vec(),
    })
}

fn tls12(messages: &[Message<'_>], transcript: &[u8]) -> Result<ProvenHandshake, MalformedProof> {
    let messages: Vec<&Message<'_>> = messages
        .iter()
        .filter(|message| message.kind != CERTIFICATE_STATUS)
        .collect();
    let kinds: Vec<u8> = messages.iter().map(|message| message.kind).collect();
    if kinds
        != [
            CLIENT_HELLO,
            SERVER_HELLO,
            CERTIFICATE,
            SERVER_KEY_EXCHANGE,
            CERTIFICATE_REQUEST,
            SERVER_HELLO_DONE,
            CERTIFICATE,
            CLIENT_KEY_EXCHANGE,
        ]
    {
        return Err(MalformedProof);
    }
    let [_, _, _, exchange, _, _, certificate, _] = messages.as_slice() else {
        return Err(MalformedProof);
    };
    let (_point, rest) = take(exchange.body.get(CURVE_LEN..).ok_or(MalformedProof)?, 1)?;
    let (signature, _) = take(rest.get(2..).ok_or(MalformedProof)?, 2)?;
    Ok(ProvenHandshake {
        signed: transcript.to_vec(),
        chain: chain(certificate.body, false)?,
        server_signature: signature.to_vec(),
    })
}

/// The cipher suite of a ServerHello.
fn suite_of(hello: &[u8]) -> Result<u16, MalformedProof> {
    let (_session_id, rest) = take(hello.get(34..).ok_or(MalformedProof)?, 1)?;
    let suite = rest.first_chunk::<2>().ok_or(MalformedProof)?;
    Ok(u16::from_be_bytes(*suite))
}

/// The list of a Certificate message; in TLS 1.3 each has extensions.
fn chain(list: &[u8], extensions: bool) -> Result<Vec<CertificateDer<'static>>, MalformedProof> {
    let (mut list, after) = take(list, 3)?;
    let mut chain = Vec::new();
    while !list.is_empty() && chain.len() < CHAIN_MAX {
        let (certificate, rest) = take(list, 3)?;
        chain.push(CertificateDer::from(certificate.to_vec()));
        list = if extensions { take(rest, 2)?.1 } else { rest };
    }
    if chain.is_empty() || !list.is_empty() || !after.is_empty() {
        return Err(MalformedProof);
    }
    Ok(chain)
}
