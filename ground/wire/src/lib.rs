//! Formats that several protocols share: HTTP messages, XML documents, urlencoded forms, server
//! URLs, percent-encoding, packet compression, IP headers, and the writing of DER. Sans-IO: bytes in, typed values out, memory bounded.

#![forbid(unsafe_code)]

pub mod compress;
pub mod der;
pub mod form;
pub mod http;
pub mod ip;
pub mod percent;
pub mod url;
pub mod xml;
