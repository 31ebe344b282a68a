//! HTTP/1.x as the VPN protocols use it: messages whose header case and order matter, a strict
//! reader for servers and a tolerant one for clients (`specs/anyconnect.md` §2.1, §5;
//! `specs/client.md` §10). Connections, keep-alive and TLS belong to the caller.

mod chunked;
mod headers;
mod message;
mod request_reader;
mod response_reader;

pub use headers::Headers;
pub use message::{Request, Response, Version};
pub use request_reader::{BODY_MAX, HEADERS_MAX, RequestError, RequestReader, TARGET_MAX};
pub use response_reader::{ResponseError, ResponseReader};
